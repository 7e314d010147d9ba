"""Settings of the project: the least that the shop needs."""

import os

from psycopg.conninfo import conninfo_to_dict

_database = conninfo_to_dict(os.environ["DATABASE_URL"])

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.pop("dbname"),
        # steps run on many threads; the pool bounds how many connections these hold
        "OPTIONS": {**_database, "pool": {"min_size": 0, "max_size": 10}},
    }
}
INSTALLED_APPS = ["shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
SECRET_KEY = "only for this example"
