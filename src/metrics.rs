//! Metrics: every name, its meaning and its labels, in one place.
//!
//! What is measured is counted elsewhere, by plain atomics beside the work: [`Run`] for a sync, [`Meter`] for a server.
//! Here it is only read and named, when somebody asks. So nothing that does work knows this module, and a request or a
//! release costs the same whether somebody watches or not.
//!
//! Units are base units, seconds and bytes, and stand at the end of a name; what only grows ends in `_total`. Labels have
//! fixed sets of values: nothing that a client or an upstream chooses becomes one.

mod process;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use crateferry_pipeline::clock::{Clock, SystemClock};
use crateferry_pipeline::flow::Level;
use crateferry_store::{Layout, Summary, disk_space};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

pub use self::process::ProcessUse;
use crate::holdings::Holdings;
use crate::run::{IndexChanges, Phase, Run};
use crate::scrub::Scrubbed;
use crate::serve::{Meter, Route, RouteMeter, STATUS_CLASSES};

/// How metrics are written: as text of `OpenMetrics`, which Prometheus and all its relatives read.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that this process tells in numbers.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// What every process tells of itself, and of its mirror.
    pub fn new(holdings: Holdings, layout: &Layout) -> Metrics {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(OfProcess { started_at: SystemClock.now() }));
        registry.register_collector(Box::new(OfMirror { holdings, layout: layout.clone() }));
        Metrics(registry)
    }

    /// Also what a server does.
    #[must_use]
    pub fn with_server(mut self, meter: Arc<Meter>, scrubbed: Arc<Scrubbed>) -> Metrics {
        self.0.register_collector(Box::new(OfServer(meter, scrubbed)));
        self
    }

    /// Also what a sync does.
    #[must_use]
    pub fn with_run(self, run: Arc<Run>) -> Metrics {
        self.with_runs(Arc::new(ArcSwap::new(run)))
    }

    /// Also what the last of several syncs does. Its counts begin anew with each of them.
    #[must_use]
    pub fn with_runs(mut self, runs: Arc<ArcSwap<Run>>) -> Metrics {
        self.0.register_collector(Box::new(OfRun(runs)));
        self
    }

    /// All of it, as of now. May wait for the disk.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut page = String::with_capacity(16 << 10);
        text::encode(&mut page, &self.0)?;
        Ok(page)
    }
}

/// Names one metric and gives its values.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// A gauge for each value of a label.
    fn gauges(
        &mut self,
        (name, label): (&str, &'static str),
        help: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(is, value)| metric.encode_family(&[(label, is)])?.encode_gauge(&value))
    }

    /// A counter for each value of a label.
    fn counters(
        &mut self,
        (name, label): (&str, &'static str),
        unit: Option<&Unit>,
        help: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        values.into_iter().try_for_each(|(is, value)| {
            metric.encode_family(&[(label, is)])?.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }
}

/// This process.
#[derive(Debug)]
struct OfProcess {
    started_at: u64,
}

impl Collector for OfProcess {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let mut metric =
            page.0.encode_descriptor("crateferry_build", "The program's version.", None, MetricType::Info)?;
        metric.encode_info(&version)?;
        let help = "When the process started, in seconds since 1970.";
        page.gauge("process_start_time", Some(&Unit::Seconds), help, self.started_at)?;
        let Some(used) = ProcessUse::now() else { return Ok(()) };
        let help = "Processor time that the process used, of all cores together.";
        page.counter("process_cpu", Some(&Unit::Seconds), help, used.cpu_seconds)?;
        let help = "Memory of the process that is resident.";
        page.gauge("process_resident_memory", Some(&Unit::Bytes), help, used.resident_bytes)?;
        page.gauge("process_open_fds", None, "Open file descriptors of the process.", used.open_fds)
    }
}

/// The mirror and its disk.
struct OfMirror {
    holdings: Holdings,
    layout: Layout,
}

impl fmt::Debug for OfMirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfMirror").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Collector for OfMirror {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        match (self.holdings)() {
            Ok(summary) => holdings(&mut page, &summary)?,
            Err(error) => tracing::warn!("cannot read what the mirror holds: {error:#}"),
        }
        match disk_space(&self.layout) {
            Ok(Some(space)) => {
                let help = "Room on the mirror's file system that may still be taken.";
                page.gauge("crateferry_disk_free", Some(&Unit::Bytes), help, space.free)?;
                let help = "Room on the mirror's file system that is taken, by whomever.";
                page.gauge("crateferry_disk_used", Some(&Unit::Bytes), help, space.used)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "cannot learn how much room the mirror's file system has");
                Ok(())
            }
        }
    }
}

fn holdings(page: &mut Page<'_>, summary: &Summary) -> fmt::Result {
    let tally = &summary.tally;
    let states = [
        ("held", tally.held),
        ("wanted", tally.wanted()),
        ("refused", tally.refused),
        ("withdrawn", tally.withdrawn),
        ("excluded", tally.excluded),
    ];
    let help = "Releases by state, as of the last publication.";
    page.gauges(("crateferry_mirror_releases", "state"), help, states)?;
    let help = "Bytes of all crate files that are held, as of the last publication.";
    page.gauge("crateferry_mirror_crate_files", Some(&Unit::Bytes), help, tally.bytes)?;
    let help = "Releases that were asked for in vain or refused, as of the last publication.";
    page.gauge("crateferry_mirror_holes", None, help, tally.holes())?;
    page.gauge("crateferry_mirror_epoch", None, "The mirror's epoch.", summary.epoch)?;
    let generation = summary.generation.as_ref();
    let number = generation.map_or(0, |generation| generation.number);
    page.gauge("crateferry_mirror_generation", None, "The number of the last generation; 0 before the first.", number)?;
    let counts = generation.map(|generation| generation.counts).unwrap_or_default();
    page.gauge("crateferry_mirror_crates", None, "Crates that are served.", counts.crates)?;
    page.gauge("crateferry_mirror_rows", None, "Rows of the index that are served.", counts.rows)?;
    let quarantined = summary.masks.all().len() as u64;
    page.gauge("crateferry_mirror_quarantined", None, "Crates and releases in quarantine.", quarantined)?;
    let Some(generation) = generation else { return Ok(()) };
    let help = "When the last generation was published, in seconds since 1970.";
    page.gauge("crateferry_mirror_published_timestamp", Some(&Unit::Seconds), help, generation.published_at)
}

/// A sync.
#[derive(Debug)]
struct OfRun(Arc<ArcSwap<Run>>);

impl Collector for OfRun {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let (mut page, run) = (Page(encoder), self.0.load());
        let now = run.phase();
        let phases = Phase::ALL.map(|phase| (phase.name(), u64::from(phase == now)));
        page.gauges(("crateferry_sync_phase", "phase"), "1 for what the sync is doing, else 0.", phases)?;
        page.gauge("crateferry_sync_due_releases", None, "Releases that this sync is to fetch.", run.total())?;
        let [failed, refused] = run.not_ok();
        let outcomes = [("stored", run.ok()), ("failed", failed), ("refused", refused)];
        let help = "Releases that left the flow, by what became of them.";
        page.counters(("crateferry_sync_releases", "outcome"), None, help, outcomes)?;
        let reasons = run.reasons().map(|(reason, count)| (reason.name(), count));
        let help = "Releases that were not stored, by the kind of reason.";
        page.counters(("crateferry_sync_failures", "reason"), None, help, reasons)?;
        let help = "Bytes of the crate files that were stored.";
        page.counter("crateferry_sync_stored", Some(&Unit::Bytes), help, run.bytes())?;
        let help = "Requests for crate files that were made again, counted when their release left the flow.";
        page.counter("crateferry_sync_retries", None, help, run.retries())?;
        index_changes(&mut page, run.index_changes())?;
        stages(&mut page, &run.levels())
    }
}

fn index_changes(page: &mut Page<'_>, changes: IndexChanges) -> fmt::Result {
    let IndexChanges { changed, removed, failed, wanted } = changes;
    let files = [("changed", changed), ("removed", removed), ("failed", failed)];
    let help = "Index files that differed from what was known, or could not be read; counted once all are recorded.";
    page.counters(("crateferry_sync_index_files", "change"), None, help, files)?;
    let help = "Releases that the index made newly wanted.";
    page.counter("crateferry_sync_newly_wanted", None, help, wanted)
}

fn stages(page: &mut Page<'_>, levels: &[Level]) -> fmt::Result {
    if levels.is_empty() {
        return Ok(()); // nothing flows yet
    }
    let mut gauges = |name, help, value: fn(&Level) -> usize| {
        let values = levels.iter().map(|level| (level.stage, value(level) as u64));
        page.gauges((name, "stage"), help, values)
    };
    gauges("crateferry_stage_in_hand", "Releases that a stage works on.", |level| level.in_hand)?;
    let help = "The most releases that a stage works on at once.";
    gauges("crateferry_stage_in_hand_limit", help, |level| level.at_once)?;
    gauges("crateferry_stage_queued", "Releases that wait before a stage.", |level| level.queued)?;
    gauges("crateferry_stage_queue_limit", "The most releases that may wait before a stage.", |level| level.queue)
}

/// A server.
#[derive(Debug)]
struct OfServer(Arc<Meter>, Arc<Scrubbed>);

impl Collector for OfServer {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let (mut page, meter) = (Page(encoder), &self.0);
        requests(&mut page, meter)?;
        durations(&mut page, meter)?;
        let sent = Route::ALL.map(|route| (route.name(), meter.route(route).sent.load(Relaxed)));
        let help = "Bytes of answers' bodies that were sent.";
        page.counters(("crateferry_http_sent", "route"), Some(&Unit::Bytes), help, sent)?;
        connections(&mut page, meter)?;
        let help = "Bytes that were read in the background and compared with their digests.";
        page.counter("crateferry_scrub_read", Some(&Unit::Bytes), help, self.1.bytes.load(Relaxed))?;
        let help = "Damage that was found in the background.";
        page.counter("crateferry_scrub_findings", None, help, self.1.findings.load(Relaxed))
    }
}

fn requests(page: &mut Page<'_>, meter: &Meter) -> fmt::Result {
    let help = "Requests by route and class of status; `none` was given up before there was an answer.";
    let mut metric = page.0.encode_descriptor("crateferry_http_requests", help, None, MetricType::Counter)?;
    for route in Route::ALL {
        for (status, count) in STATUS_CLASSES.into_iter().zip(&meter.route(route).requests) {
            let labels = [("route", route.name()), ("status", status)];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count.load(Relaxed), None)?;
        }
    }
    Ok(())
}

fn durations(page: &mut Page<'_>, meter: &Meter) -> fmt::Result {
    let (unit, help) =
        (Some(&Unit::Seconds), "How long requests took, from their head to the last byte of the answer.");
    let name = "crateferry_http_request_duration";
    let mut metric = page.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
    for route in Route::ALL {
        let RouteMeter { took, .. } = meter.route(route);
        let (sum, buckets) = (took.sum(), took.buckets());
        let count = buckets.iter().map(|(_, count)| count).sum();
        let labels = [("route", route.name())];
        metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

fn connections(page: &mut Page<'_>, meter: &Meter) -> fmt::Result {
    let of = |count: &AtomicU64| count.load(Relaxed);
    page.gauge("crateferry_http_in_hand", None, "Requests that are being answered.", of(&meter.in_hand))?;
    page.gauge("crateferry_connections_open", None, "Connections that are there.", of(&meter.open))?;
    page.counter("crateferry_connections_accepted", None, "Connections that were taken.", of(&meter.accepted))?;
    let help = "Connections that were closed at once, because their address had too many.";
    page.counter("crateferry_connections_refused", None, help, of(&meter.refused))?;
    let help = "Connections that were ended because their client took too little or asked for nothing.";
    page.counter("crateferry_connections_cut", None, help, of(&meter.cut))?;
    let help = "Connections that ended before they spoke TLS.";
    page.counter("crateferry_tls_handshake_failures", None, help, of(&meter.handshake_failures))
}
