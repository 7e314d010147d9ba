"""The tables of a shop, and how to reach them."""

from __future__ import annotations

import os

from sqlalchemy import ForeignKey, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    amount_cents: Mapped[int]
    state: Mapped[str] = mapped_column(default="placed")
    payments: Mapped[list[Payment]] = relationship(back_populates="order")


class Payment(Base):
    __tablename__ = "payments"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    amount_cents: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="payments")
