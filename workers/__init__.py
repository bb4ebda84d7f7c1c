"""The processes: a Celery app whose tasks carry bells, the drain and the sweeper. `celery -A workers worker`."""
