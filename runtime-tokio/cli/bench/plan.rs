//! What the load is to be.

use std::sync::Arc;
use std::time::Duration;

use pitaya_tokio::{Bytes, ClientConfig, Limits};

use super::Args;

/// The load, as asked for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) route: Arc<str>,
    pub(crate) body: Bytes,
    /// What every reply has to be, if that is known.
    pub(crate) expected: Option<Bytes>,
    pub(crate) connections: usize,
    pub(crate) connecting_max: usize,
    pub(crate) depth: usize,
    /// Requests a second of all connections together; none in a closed loop.
    pub(crate) rate: Option<u32>,
    pub(crate) duration: Duration,
    pub(crate) warmup: Duration,
    pub(crate) timeout: Duration,
    pub(crate) pid: Option<u32>,
}

impl Plan {
    /// # Errors
    ///
    /// Data that is no JSON.
    pub(crate) fn new(args: &Args) -> Result<Self, String> {
        Ok(Self {
            url: args.url.clone(),
            route: args.route.as_str().into(),
            body: body(args)?,
            expected: args.expect.clone().map(Bytes::from),
            connections: args.connections as usize,
            connecting_max: args.connecting_max as usize,
            depth: args.depth as usize,
            rate: args.rate,
            duration: args.duration,
            warmup: args.warmup,
            timeout: args.timeout,
            pid: args.pid,
        })
    }

    /// The settings of every connection.
    pub(crate) fn config(&self) -> ClientConfig {
        let usual = Limits::default();
        let waiting_bytes = self.depth * (self.body.len() + MESSAGE_HEAD_BYTES_MAX);
        let limits = usual
            .clone()
            .in_flight_max(self.depth)
            .outbound_packets_max(usual.outbound_packets_max.max(2 * self.depth))
            .outbound_bytes_max(usual.outbound_bytes_max.max(2 * waiting_bytes))
            // How soon a server replies says nothing about how soon thousands are let in.
            .connect_timeout(self.timeout.max(usual.connect_timeout))
            .write_timeout(self.timeout.max(usual.write_timeout));
        ClientConfig { limits, ..ClientConfig::default() }
    }
}

/// Reads a time such as `10s`, `500ms`, `2m` or `1.5`, which are seconds.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    let time = parsed.ok_or("write it as 10s, 500ms or 2m")?;
    if time <= TIME_MAX { Ok(time) } else { Err("more than a day".to_owned()) }
}

fn body(args: &Args) -> Result<Bytes, String> {
    if let Some(data) = &args.data {
        let json = serde_json::from_str::<serde::de::IgnoredAny>(data);
        json.map_err(|error| format!("the data is no JSON: {error}"))?;
        return Ok(Bytes::from(data.clone()));
    }
    let payload = args.payload.map(|bytes| format!("\"{}\"", "x".repeat(bytes as usize - 2)));
    Ok(payload.map(Bytes::from).unwrap_or_default())
}

const MESSAGE_HEAD_BYTES_MAX: usize = 300;
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_its_unit() {
        for (text, millis) in [("10s", 10_000), ("500ms", 500), ("2m", 120_000), ("1.5", 1_500)] {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1h", "nan", "inf", "2000m"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
