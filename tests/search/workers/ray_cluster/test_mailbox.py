"""Jobs by number for Tune, and outcomes that wait for their files."""

from __future__ import annotations

from search.workers.ray_cluster.mailbox import Desk, News


def test_an_outcome_is_told_with_the_files_and_the_later_one_counts() -> None:
    desk = Desk()
    desk.hand(3, ["job"])
    assert desk.take() == (3, False)
    assert desk.take() == (None, False), "Tune has one"
    desk.keep(3, "of a worker that was lost")
    assert desk.job(3) == ["job"], "for the worker that runs it once more"
    desk.keep(3, {17: 4.5})
    assert desk.collect() == []
    desk.tell(News(3, ended=True, parcel="files"))
    assert desk.collect() == [News(3, ended=True, parcel="files", outcome={17: 4.5})]
    assert desk.take() == (None, True)


def test_a_job_that_was_handed_out_again_stays_when_its_first_run_ends() -> None:
    desk = Desk()
    desk.hand(3, ["job"])
    desk.take()
    desk.hand(3, ["job"])
    desk.tell(News(3, ended=True, cause="lost"))
    assert desk.take() == (3, False)
    assert desk.job(3) == ["job"]
