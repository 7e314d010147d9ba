-- The tables of a small shop; each new order starts a workflow.

CREATE TABLE customers (
    name text PRIMARY KEY
);

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL REFERENCES customers,
    amount_cents int NOT NULL CHECK (amount_cents > 0),
    state text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'paid', 'shipped')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A ledger. A real shop would make order_id UNIQUE; here nothing but the workflow
-- stands between an order and a second payment, so that one would show.
CREATE TABLE payments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES orders,
    charge_id text NOT NULL,
    amount_cents int NOT NULL,
    paid_at timestamptz NOT NULL DEFAULT now()
);

-- The order and its workflow are rows of one transaction: both commit or neither does,
-- whoever inserts. The workflow_id makes the workflow findable from the order.
SELECT lockstep.attach_workflow(
    'orders', 'fulfil_order', 'orders',
    workflow_id => $$'order-' || new.id$$,
    named_args => $$jsonb_build_object('order_id', new.id)$$
);
