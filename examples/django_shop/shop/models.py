"""The tables of the shop."""

from django.db import models


class Order(models.Model):
    amount_cents = models.IntegerField()
    state = models.TextField(default="placed")


class Payment(models.Model):
    order = models.ForeignKey(Order, on_delete=models.PROTECT)
    amount_cents = models.IntegerField()
