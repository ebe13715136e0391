// Hypervolume, exactly: for the difference between two studies, which no one study has computed.
// Slicing along the last objective (While et al., IEEE TEC 2006, HSO): fine for the few hundred points of two fronts.

/** Points as costs (smaller is better), all of one length; `reference` is the worst that counts. */
export function hypervolume(points, reference) {
  const inside = points.filter((point) => point.every((value, at) => value < reference[at]));
  if (!inside.length) return 0;
  if (reference.length === 1) return reference[0] - Math.min(...inside.map(([value]) => value));
  const last = reference.length - 1, levels = [...new Set(inside.map((point) => point[last]))].sort((a, b) => a - b);
  return levels.reduce((sum, level, at) => {
    const depth = (levels[at + 1] ?? reference[last]) - level;
    const slice = nondominated(inside.filter((point) => point[last] <= level).map((point) => point.slice(0, last)));
    return sum + depth * hypervolume(slice, reference.slice(0, last));
  }, 0);
}

function nondominated(points) {
  return points.filter((a, i) => !points.some((b, j) => j !== i && b.every((value, at) => value <= a[at]) && (b.some((value, at) => value < a[at]) || j < i)));
}
