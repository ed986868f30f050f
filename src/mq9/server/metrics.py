"""What the broker counts, as Prometheus metrics. No label ever has a mail_id in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mq9.server.limits import LIMITS

if TYPE_CHECKING:
    from mq9.server.broker import Server

_COMMIT_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics(Collector):
    """The counters of one broker, read when somebody asks.

    Arguments:
        server: the broker.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.registry = CollectorRegistry()
        self.commit_seconds = Histogram(
            "mq9_commit_seconds",
            "How long commits took, fsync included",
            buckets=_COMMIT_BUCKETS,
            registry=self.registry,
        )
        self.damaged_blocks = 0
        self.damaged_rows = 0
        self.registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Nothing: `collect` needs a started broker."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All metrics but the histogram of commits, which the registry has itself."""
        hub, office = self._server.hub, self._server.office
        yield GaugeMetricFamily("mq9_connections", "Clients connected", len(hub.sessions))
        yield CounterMetricFamily("mq9_connections_opened", "Clients that ever connected", hub.connections_total)
        yield GaugeMetricFamily("mq9_subscriptions", "Core NATS subscriptions", hub.router.count)
        yield CounterMetricFamily("mq9_messages_in", "Publishes from clients, core and mailboxes", hub.messages_in)
        yield CounterMetricFamily("mq9_messages_out", "Messages written to clients", hub.messages_out)
        yield CounterMetricFamily("mq9_mail_in", "Messages sent to mailboxes", hub.mail_in)
        yield CounterMetricFamily("mq9_mail_out", "Messages delivered from mailboxes", hub.mail_out)
        yield CounterMetricFamily("mq9_bytes_in", "Bytes read from clients", hub.bytes_in)
        yield CounterMetricFamily("mq9_bytes_out", "Bytes written to clients", hub.bytes_out)
        yield CounterMetricFamily("mq9_slow_consumers", "Clients cut off for not reading", hub.slow_consumers)
        yield CounterMetricFamily("mq9_commits", "Commits that became durable", self._server.committer.commits)
        yield GaugeMetricFamily("mq9_backlog_bytes", "Bytes of messages waiting for their commit", office.backlog)
        yield GaugeMetricFamily("mq9_mailboxes", "Mailboxes", len(office.mailboxes))
        yield GaugeMetricFamily("mq9_stored_messages", "Messages stored", office.messages)
        yield GaugeMetricFamily("mq9_stored_bytes", "Bytes of the records of stored messages", office.message_bytes)
        yield GaugeMetricFamily("mq9_blocks", "Blocks stored", office.blocks.blocks)
        yield GaugeMetricFamily("mq9_block_bytes", "Bytes of stored blocks, dead records included", office.blocks.size)
        rewritten = self._server.rewriter.bytes_rewritten
        yield CounterMetricFamily("mq9_rewritten_bytes", "Bytes of mostly dead blocks that were rewritten", rewritten)
        yield CounterMetricFamily("mq9_damaged_blocks", "Blocks found damaged at the start", self.damaged_blocks)
        yield CounterMetricFamily("mq9_damaged_rows", "Rows found damaged at the start", self.damaged_rows)
        expired = CounterMetricFamily("mq9_expired", "What ended by its time", labels=["what"])
        expired.add_metric(["message"], office.expired_messages)
        expired.add_metric(["mailbox"], office.expired_mailboxes)
        yield expired
        yield GaugeMetricFamily("mq9_groups", "Groups", office.groups.groups)
        yield GaugeMetricFamily(
            "mq9_unfinished", "Messages that groups were given and have not finished", office.groups.unfinished
        )
        yield GaugeMetricFamily("mq9_message_ids", "Values of Nats-Msg-Id that are remembered", office.repeats.count)
        requests = GaugeMetricFamily("mq9_requests", "Requests that wait or are worked on", labels=["kind"])
        requests.add_metric(["FETCH"], self._server.leasing.under_way)
        requests.add_metric(["fetch"], self._server.fetcher.under_way)
        yield requests
        yield from self._limits()
        yield CounterMetricFamily("mq9_rate_waits", "Times that clients had to wait by max_rate", hub.rate_waits)
        refusals = CounterMetricFamily("mq9_refusals", "What was refused, by reason", labels=["reason"])
        for reason, count in list(hub.refusals.items()):
            refusals.add_metric([reason], count)
        yield refusals

    def _limits(self) -> Iterator[Metric]:
        """What mq9.server.limits names: how high each limit is, and how often clients have reached it."""
        hub, config = self._server.hub, self._server.config
        values = GaugeMetricFamily("mq9_limit", "How much there may be; 0 for without limit", labels=["limit"])
        reached = CounterMetricFamily("mq9_limit_reached", "How often clients have reached a limit", labels=["limit"])
        for limit in LIMITS:
            if not limit.startswith("users."):
                values.add_metric([limit], getattr(config, limit))
            count = hub.slow_consumers if limit == "max_pending" else hub.reached[limit]
            reached.add_metric([limit], count)
        yield values
        yield reached
