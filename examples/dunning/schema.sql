-- Invoices, and what may happen to them.
BEGIN;

CREATE TABLE invoices (
    number int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    customer text NOT NULL,
    amount_cents int NOT NULL,
    state text NOT NULL DEFAULT 'draft'
);

SELECT lockstep.create_state_machine('invoice');
SELECT lockstep.add_transition('invoice', NULL, 'write', 'draft');
SELECT lockstep.add_transition('invoice', 'draft', 'discard', 'discarded');
SELECT lockstep.add_transition('invoice', 'draft', 'send', 'sent', 'collect');
SELECT lockstep.add_transition('invoice', 'sent', 'pay', 'paid', 'thank');
SELECT lockstep.add_transition('invoice', 'sent', 'fall_due', 'overdue');
SELECT lockstep.add_transition('invoice', 'overdue', 'pay', 'paid', 'thank');
SELECT lockstep.add_transition('invoice', 'overdue', 'write_off', 'written off');
SELECT lockstep.attach_state_machine('invoices', 'state', 'invoice');

COMMIT;
