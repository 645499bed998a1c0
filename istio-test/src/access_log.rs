//! When a sidecar had requests of its application's open, read from its access log in Istio's default format.
//!
//! A proxy logs each request once, with the millisecond in which it came and for how many whole ones it was open. So a
//! request is never longer here than it was, and two that followed each other are never open together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Of each request that came to the application from `start` on: when it came, and when it was done, both since `start`.
pub fn inbound(log: &str, start: SystemTime) -> Vec<(Duration, Duration)> {
    let start = start.duration_since(UNIX_EPOCH).unwrap_or_default();
    // As the log does.
    let start = Duration::from_millis(start.as_millis() as u64);
    let lines = log.lines().filter(|line| line.contains("inbound|8080||"));
    let requests = lines.filter_map(|line| {
        let (came, open) = times(line)?;
        let came = came.checked_sub(start)?;
        Some((came, came + open))
    });
    requests.collect()
}

/// `[START_TIME] "REQUEST" CODE FLAGS DETAILS TERMINATION "FAILURE" RECEIVED SENT DURATION …`
fn times(line: &str) -> Option<(Duration, Duration)> {
    let (came, _) = line.strip_prefix('[')?.split_once(']')?;
    let came = OffsetDateTime::parse(came, &Rfc3339).ok()?;
    let came = SystemTime::from(came).duration_since(UNIX_EPOCH).ok()?;
    let sizes = line.split('"').nth(4)?;
    let open = sizes.split_whitespace().nth(2)?.parse().ok()?;
    Some((came, Duration::from_millis(open)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str, duration: u32, cluster: &str) -> String {
        format!(
            "[{time}] \"GET /?delay=100ms HTTP/1.1\" 200 - via_upstream - \"-\" 0 812 {duration} 101 \"-\" \"-\" \"uuid\" \"a.istio.svc.cluster.local\" \"10.77.1.3:8080\" {cluster} 127.0.0.6:1 10.77.1.3:8080 10.77.1.2:2 outbound_.80_._.a.istio.svc.cluster.local default"
        )
    }

    #[test]
    fn requests_to_the_application_since_the_start_are_read() {
        let log = [
            line("2026-11-30T20:00:00.999Z", 50, "inbound|8080||"),
            "2026-11-30T20:00:01.000Z info what pilot-agent says".to_owned(),
            line("2026-11-30T20:00:01.000Z", 102, "inbound|8080||"),
            line(
                "2026-11-30T20:00:01.500Z",
                30,
                "outbound|80||a.istio.svc.cluster.local",
            ),
            line("2026-11-30T20:00:02.250Z", 103, "inbound|8080||"),
        ]
        .join("\n");
        // The first millisecond is one, wherever in it the run began.
        let start = OffsetDateTime::parse("2026-11-30T20:00:01.0007Z", &Rfc3339).unwrap();
        let ms = Duration::from_millis;
        assert_eq!(
            inbound(&log, start.into()),
            [(ms(0), ms(102)), (ms(1_250), ms(1_353))]
        );
    }
}
