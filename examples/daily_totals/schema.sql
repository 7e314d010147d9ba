CREATE TABLE orders (
    order_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    placed_at timestamptz NOT NULL,
    amount numeric NOT NULL
);

CREATE TABLE daily_totals (
    day date PRIMARY KEY,
    order_count int NOT NULL,
    amount numeric NOT NULL
);

-- three orders on each day of two weeks, but only one on the first Monday
INSERT INTO orders (placed_at, amount)
SELECT d.day + t.hour * interval '1 hour', 10
FROM generate_series('2026-03-23 00:00+01', '2026-04-05 00:00+02', interval '1 day') AS d (day)
CROSS JOIN unnest('{4, 12, 22}'::int[]) AS t (hour)
WHERE d.day > '2026-03-23 00:00+01' OR t.hour = 12;
