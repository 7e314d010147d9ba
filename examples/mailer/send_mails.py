"""Send two newsletters, a password reset and a digest. Run it with: python send_mails.py"""

from __future__ import annotations

from datetime import timedelta

import lockstep
from mailer import send_digest, send_mail

BIG, SMALL = "big.example", "small.example"


def send_newsletter(client: lockstep.Client, customer: str, count: int) -> list[str]:
    """Enqueue a mail for each reader, behind what is more urgent for the customer."""
    return client.enqueue_many(
        send_mail.options(priority=10),
        [(f"reader-{number}@{customer}", "News") for number in range(count)],
        queue_partition_keys=[customer] * count,
    )


def reset_password(client: lockstep.Client, customer: str) -> str:
    urgent = send_mail.options(queue_partition_key=customer, priority=0)
    return client.enqueue(urgent, f"ada@{customer}", "Your new password")


def note_changes(client: lockstep.Client, customer: str, changes: list[str]) -> str:
    """Have one digest sent when no change has come for a while."""
    digest = send_digest.options(
        queue_partition_key=customer,
        deduplication_id=f"digest for {customer}",
        debounce=timedelta(seconds=0.5),
        debounce_max_delay=timedelta(minutes=10),
    )
    return client.enqueue(digest, f"owner@{customer}", changes)


def main() -> None:
    with lockstep.Client() as client:
        big = send_newsletter(client, BIG, 60)
        small = send_newsletter(client, SMALL, 4)
        reset = reset_password(client, BIG)
        changes: list[str] = []
        for change in ("logo", "address", "tariff"):
            changes.append(change)
            digest = note_changes(client, SMALL, changes)

        print(client.result(reset))
        print(client.result(digest))
        for workflow_id in big + small:
            client.result(workflow_id)

        ended = {id: client.get(id).completed_at for id in (*big, *small, reset)}
        print(f"{len(ended) + 1} mails sent")
        print("first of the big customer:", "password" if ended[reset] < ended[big[9]] else "news")
        print("done first:", SMALL if ended[small[-1]] < ended[big[-1]] else BIG)


if __name__ == "__main__":
    main()
