"""Jobs on Celery over Redis: measured where it is installed."""

from __future__ import annotations

from typing import Any

import msgspec
from _jobs_role import AT_ONCE, Arguments, Tally, read_arguments, tell
from _order import ORDER, Order
from celery import Celery

_TASK = "confirm"


def connect(arguments: Arguments) -> Celery:
    """Return the application; a job is acknowledged after it is done, as the other stacks do."""
    app = Celery(broker=arguments.url)
    app.conf.update(
        task_acks_late=True,
        task_default_queue=arguments.queue,
        task_ignore_result=True,
        worker_concurrency=1,
        worker_prefetch_multiplier=AT_ONCE,
        worker_redirect_stdouts=False,
    )
    return app


def post(arguments: Arguments) -> None:
    """Store every job, before anybody is there who does it."""
    app, order = connect(arguments), msgspec.to_builtins(ORDER)
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(arguments.every):
            app.send_task(_TASK, (order,), producer=producer)
    tell(posted=arguments.every)


def work(arguments: Arguments) -> None:
    """Do them all, in this process: with the pool `prefork` it takes two, and is slower."""
    app, tally = connect(arguments), Tally(arguments)

    @app.task(name=_TASK)
    def confirm(order: dict[str, Any]) -> None:
        if tally.do(msgspec.convert(order, Order)):
            app.control.shutdown()  # what is in hand is finished, and acknowledged

    alone = ["--without-gossip", "--without-heartbeat", "--without-mingle"]
    app.worker_main(["worker", "--pool", "solo", "--loglevel", "ERROR", *alone])


def main() -> None:
    """Post or work."""
    arguments = read_arguments("Jobs on Celery.")
    (post if arguments.role == "post" else work)(arguments)


if __name__ == "__main__":
    main()
