"""Sends a patient to the clinic and prints what we know, and what the database knows."""

from datetime import timedelta

import lockstep
from clinic import visit
from vault import codec

with lockstep.Client(codec=codec) as client, lockstep.Client() as stranger:
    visit_id = client.enqueue(visit, "Ada", complaint="a cough")
    print("finding:", client.get_event(visit_id, "finding", timeout=timedelta(seconds=30)))
    client.send(visit_id, "yes, signed by Ada", "consent")
    print("result:", client.result(visit_id))

    info = stranger.get(visit_id)
    print("stranger:", info.workflow_name, info.status, list(info.inputs["namedArgs"]))
    print("stranger:", sorted(info.output), info.output["$lockstep"])
