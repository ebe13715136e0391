"""How a trial becomes something to ship: the pick's folder, verified artefacts, the model card."""
