-- The tables of a billing service, and the workflows that its rows start.

CREATE TABLE invoices (
    id bigint GENERATED ALWAYS AS IDENTITY,
    month date NOT NULL,
    customer text NOT NULL,
    amount_cents int NOT NULL CHECK (amount_cents > 0),
    state text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'sent', 'paid')),
    PRIMARY KEY (id, month)
) PARTITION BY RANGE (month);

CREATE TABLE invoices_2026_05 PARTITION OF invoices FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
CREATE TABLE invoices_2026_06 PARTITION OF invoices FOR VALUES FROM ('2026-06-01') TO ('2026-07-01');

-- A real service would make invoice_id UNIQUE; here nothing but the workflow stands
-- between an invoice and a second receipt, so that one would show.
CREATE TABLE receipts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    invoice_id bigint NOT NULL,
    amount_cents int NOT NULL
);

-- each new invoice is sent; the workflow gets its primary key: id and month
SELECT lockstep.attach_workflow(
    'invoices', 'send_invoice', 'billing', workflow_id => $$'invoice-' || new.id$$
);

-- each invoice that becomes paid gets a receipt
SELECT lockstep.attach_workflow(
    'invoices', 'write_receipt', 'billing',
    events => '{UPDATE}',
    columns => '{state}',
    condition => $$new.state = 'paid'$$,
    workflow_id => $$'receipt-' || new.id$$,
    named_args => $$jsonb_build_object('invoice_id', new.id, 'amount_cents', new.amount_cents)$$
);
