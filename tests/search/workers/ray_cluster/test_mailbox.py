"""Jobs by number for Tune, and outcomes that wait for their files."""

from __future__ import annotations

from search.trial import Failure, FailureKind
from search.workers.ray_cluster.mailbox import Mailbox, News


def test_an_outcome_is_told_with_the_files_and_the_later_one_counts() -> None:
    mailbox = Mailbox()
    mailbox.hand(3, ["job"])
    assert mailbox.take() == (3, False)
    assert mailbox.take() == (None, False), "Tune has one"
    mailbox.keep(3, "of a worker that was lost")
    assert mailbox.job(3) == ["job"], "for the worker that runs it once more"
    mailbox.keep(3, {17: 4.5})
    assert mailbox.collect() == []
    mailbox.tell(News(3, ended=True, parcel="files"))
    assert mailbox.collect() == [News(3, ended=True, parcel="files", outcome={17: 4.5})]
    assert mailbox.take() == (None, True)


def test_a_job_that_was_handed_out_again_stays_when_its_first_run_ends() -> None:
    mailbox = Mailbox()
    mailbox.hand(3, ["job"])
    mailbox.take()
    mailbox.hand(3, ["job"])
    mailbox.tell(News(3, ended=True, cause="lost"))
    assert mailbox.take() == (3, False)
    assert mailbox.job(3) == ["job"]


def test_none_is_an_outcome_and_no_outcome_is_a_failure() -> None:
    mailbox = Mailbox()
    mailbox.keep(3, None)
    for number in (3, 4):
        mailbox.tell(News(number, ended=True, parcel="files"))
    kept, missing = (news.outcome for news in mailbox.collect())
    assert kept is None
    assert isinstance(missing, Failure) and missing.kind == FailureKind.LOST
