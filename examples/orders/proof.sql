-- What must hold once all orders are through: a fact, what the database has, what it should.
SELECT 'orders placed' AS fact, count(*) AS found, %(order_count)s AS expected
FROM orders
UNION ALL
SELECT 'orders whose workflow succeeded', count(*), %(order_count)s
FROM orders AS o
INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = 'order-' || o.id
WHERE w.status = 'SUCCESS'
UNION ALL
SELECT 'orders shipped that say so in their event', count(*), %(order_count)s
FROM orders AS o
WHERE o.state = 'shipped'
    AND lockstep.get_event('order-' || o.id, 'state') = '"shipped"'
UNION ALL
SELECT 'orders paid exactly once', count(*), %(order_count)s
FROM orders AS o
WHERE (SELECT count(*) FROM payments AS p WHERE p.order_id = o.id) = 1
UNION ALL
SELECT 'payments of the order that has most', max(p.payment_count), 1
FROM (SELECT count(*) AS payment_count FROM payments GROUP BY order_id) AS p
UNION ALL
SELECT 'cents paid', (SELECT sum(p.amount_cents) FROM payments AS p), sum(o.amount_cents)
FROM orders AS o
UNION ALL
SELECT 'orders that the rollback left', count(*), 0
FROM orders AS o
WHERE o.customer = %(doubtful_customer)s
UNION ALL
SELECT 'workflows without an order', count(*), 0
FROM lockstep.workflow_status AS w
WHERE NOT EXISTS (SELECT FROM orders AS o WHERE 'order-' || o.id = w.workflow_id)
UNION ALL
SELECT
    'workflows recovered from the killed worker',
    count(*) FILTER (WHERE w.attempts > 1),
    -- at least one, or the kill came too late to show anything
    greatest(cardinality(%(interrupted)s::text[]), 1)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id = ANY (%(interrupted)s::text[])
    AND w.status = 'SUCCESS'
