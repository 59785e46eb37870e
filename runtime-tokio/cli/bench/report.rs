//! What a run has shown, for people and for programs.

use std::fmt;
use std::time::Duration;

use pitaya_tokio::Instant;
use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::progress;
use super::tally::Tally;

/// The outcome of a run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    plan: Plan,
    tally: Tally,
    connected: usize,
    elapsed: Duration,
    replies: u64,
    server_us: Option<f64>,
    own_us: Option<f64>,
}

/// What a run had come to at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) replies: u64,
    pub(crate) server_cpu: Option<Duration>,
    pub(crate) own_cpu: Duration,
}

impl Report {
    /// What was between two samples.
    pub(crate) fn new(
        plan: &Plan, tally: Tally, connected: usize, began: Sample, ended: Sample,
    ) -> Self {
        let replies = ended.replies - began.replies;
        let each = |(began, ended): (Duration, Duration)| {
            let used = ended.saturating_sub(began).as_secs_f64() * 1e6;
            (replies > 0).then(|| used / replies as f64)
        };
        Self {
            plan: plan.clone(),
            tally,
            connected,
            elapsed: ended.at.since(began.at),
            replies,
            server_us: began.server_cpu.zip(ended.server_cpu).and_then(each),
            own_us: each((began.own_cpu, ended.own_cpu)),
        }
    }

    /// Whether there were replies, all connections and no errors.
    pub(crate) fn is_well(&self) -> bool {
        self.replies > 0 && self.tally.failed() == 0 && self.connected == self.plan.connections
    }

    pub(crate) fn json(&self) -> Value {
        let Self { plan, tally, .. } = self;
        let latency = &tally.latency;
        let at = |quantile| json!(latency.value_at_quantile(quantile));
        let mut latency_us: Map<_, _> =
            QUANTILES.iter().map(|(name, quantile)| ((*name).to_owned(), at(*quantile))).collect();
        latency_us.insert("min".to_owned(), json!(latency.min()));
        latency_us.insert("max".to_owned(), json!(latency.max()));
        latency_us.insert("mean".to_owned(), json!(latency.mean()));
        json!({
            "url": plan.url,
            "route": &*plan.route,
            "loop": if plan.rate.is_some() { "open" } else { "closed" },
            "rate": plan.rate,
            "depth": plan.depth,
            "connections": plan.connections,
            "connected": self.connected,
            "body_bytes": plan.body.len(),
            "seconds": self.elapsed.as_secs_f64(),
            "replies": self.replies,
            "replies_per_second": self.per_second(),
            "pushes": tally.pushes,
            "errors": tally.failed(),
            "errors_by_kind": tally.errors,
            "latency_us": latency_us,
            "latency_from": self.latency_from(),
            "latency_count": latency.len(),
            "server_cpu_us_per_reply": self.server_us,
            "own_cpu_us_per_reply": self.own_us,
        })
    }

    fn per_second(&self) -> f64 {
        self.replies as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn latency_from(&self) -> &'static str {
        if self.plan.rate.is_some() { "when the request was due" } else { "when it was sent" }
    }

    fn explanation(&self) -> String {
        let Plan { depth, connections, rate, .. } = &self.plan;
        let (depth, connections) = (grouped(*depth as u64), grouped(*connections as u64));
        match rate {
            None => format!(
                " closed loop: {connections} connections with {depth} in flight each; latency \
                 counts from sending,\n and what a slow reply keeps from being sent is not in it \
                 (--rate has it)"
            ),
            Some(rate) => format!(
                " open loop: {} requests/s on {connections} connections, at most {depth} in \
                 flight each;\n latency counts from when a request was due, sent or not",
                grouped(u64::from(*rate)),
            ),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (errors, latency) = (self.tally.failed(), &self.tally.latency);
        writeln!(f, "{}", progress::line(self.elapsed, 1.0, self.replies, errors))?;
        for (name, quantile) in QUANTILES {
            write!(f, " {name} {}  ", millis(latency.value_at_quantile(quantile)))?;
        }
        writeln!(f, " max {}", millis(latency.max()))?;
        write!(f, " {} replies/s", grouped(self.per_second() as u64))?;
        for (who, micros) in [("server", self.server_us), ("this command", self.own_us)] {
            let cost = micros.map(|micros| format!("   {who} {micros:.2} us/request"));
            f.write_str(&cost.unwrap_or_default())?;
        }
        writeln!(f)?;
        writeln!(f, "{}", self.explanation())?;
        for (kind, count) in &self.tally.errors {
            writeln!(f, " {} x {}", grouped(*count), kind.escape_debug())?;
        }
        Ok(())
    }
}

/// A number with commas between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Milliseconds with three digits or so.
fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    let digits = match micros {
        ..10_000 => 2,
        10_000..100_000 => 1,
        100_000.. => 0,
    };
    format!("{millis:.digits$} ms")
}

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_904_331, "1,904,331")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_latency_keeps_the_digits_that_matter() {
        let cases =
            [(41, "0.04 ms"), (9_990, "9.99 ms"), (12_340, "12.3 ms"), (1_234_567, "1235 ms")];
        for (micros, text) in cases {
            assert_eq!(millis(micros), text);
        }
    }
}
