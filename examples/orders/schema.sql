-- The tables of a small shop, and the trigger that hands each new order to a workflow.

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
-- whoever inserts. The workflow_id makes the workflow findable from the order, and a
-- second enqueue for the same order does nothing.
CREATE FUNCTION enqueue_order() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM lockstep.enqueue_workflow(
        'fulfil_order',
        'orders',
        workflow_id => 'order-' || NEW.id,
        named_args => jsonb_build_object('order_id', NEW.id)
    );
    RETURN NULL;
END
$$;

-- AFTER, because only then the row passed every constraint and BEFORE trigger.
CREATE TRIGGER orders_enqueue_order
AFTER INSERT ON orders
FOR EACH ROW EXECUTE FUNCTION enqueue_order();
