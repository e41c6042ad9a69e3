//! Scrapes an agent's `/metrics` from inside its namespace and finds samples in the OpenMetrics text.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use super::config::METRICS;
use super::netns::Netns;

/// How long a scrape may take.
const LIMIT: Duration = Duration::from_secs(5);

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Asks the agent in `netns`.
    ///
    /// # Errors
    /// Nobody answers, or not with 200.
    pub fn scrape(netns: &Netns) -> Result<Self> {
        let answer = netns.run(|| {
            let mut stream = TcpStream::connect(METRICS).context("cannot connect to /metrics")?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).context("cannot read /metrics")?;
            Ok(answer)
        })?;
        let (head, text) =
            answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("no HTTP answer: {answer}"))?;
        if !head.starts_with("HTTP/1.1 200") && !head.starts_with("HTTP/1.0 200") {
            bail!("/metrics answered {head}");
        }
        Ok(Self { text: text.to_owned() })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sum of all samples of `name` whose labels contain all of `labels`, such as `reason="digest"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.samples(name, labels).sum()
    }

    /// Whether there is such a sample.
    pub fn has(&self, name: &str, labels: &[&str]) -> bool {
        self.samples(name, labels).next().is_some()
    }

    fn samples<'a>(&'a self, name: &'a str, labels: &'a [&'a str]) -> impl Iterator<Item = f64> + 'a {
        let lines = self.text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(move |line| {
            let (sample, value) = line.rsplit_once(' ')?;
            let (found, rest) = sample.split_once('{').unwrap_or((sample, ""));
            let is_wanted = found == name && labels.iter().all(|label| rest.contains(label));
            is_wanted.then(|| value.parse().ok()).flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP a b\na_total{link=\"0\",reason=\"key\"} 3\na_total{link=\"1\",reason=\"key\"} 4\nab 1\n# EOF\n";
        let metrics = Metrics { text: text.to_owned() };
        assert!((metrics.sum("a_total", &["reason=\"key\""]) - 7.0).abs() < 1e-9);
        assert!((metrics.sum("a_total", &["link=\"1\""]) - 4.0).abs() < 1e-9);
        assert!(metrics.has("ab", &[]));
        assert!(!metrics.has("a", &[]));
    }
}
