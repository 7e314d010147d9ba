"""A workflow about patients, of whom the database learns nothing."""

from datetime import timedelta

import lockstep
from vault import codec

app = lockstep.App(codec=codec)


@app.step
async def examine(patient: str, complaint: str) -> str:
    return f"{patient} has {complaint} and should rest"


@app.workflow
async def visit(patient: str, complaint: str) -> str:
    finding = await examine(patient, complaint)
    await lockstep.set_event("finding", finding)
    consent = await lockstep.receive("consent", timeout=timedelta(minutes=5))
    return f"{finding}; consent: {consent}"
