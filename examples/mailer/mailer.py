"""A mailer that many customers share. Run it with: lockstep worker mailer:app --queue mail"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import lockstep

app = lockstep.App()
mail = app.queue(
    "mail",
    concurrency=3,  # connections that the mail server accepts from us
    rate_limit=30,  # mails that it accepts in a second
    rate_period=timedelta(seconds=1),
    partition_concurrency=2,  # connections for one customer, so that there are some for others
)


@app.step(retries=lockstep.Retry(max_attempts=5, delay=timedelta(milliseconds=200)))
async def hand_over(address: str, subject: str) -> str:
    """Give a mail to the mail server, for which a pause stands here."""
    await asyncio.sleep(0.05)
    return f'"{subject}" to {address}'


@app.workflow(queue_name=mail.queue_name)
async def send_mail(address: str, subject: str) -> str:
    return await hand_over(address, subject)


@app.workflow(queue_name=mail.queue_name)
async def send_digest(address: str, changes: list[str]) -> str:
    return await hand_over(address, f"{len(changes)} changes: {', '.join(changes)}")
