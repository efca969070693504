//! A server's admin port, and what its process costs.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::node::Node;
use crate::process;

/// An answer of the admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: String,
}

impl Node {
    /// Whether `/readyz` says 200.
    pub fn is_ready(&self) -> bool {
        self.ask("GET", "/readyz", "", None).is_ok_and(|answer| answer.status == 200)
    }

    /// `GET`, with the token.
    ///
    /// # Panics
    /// When nothing answers.
    pub fn get(&self, path: &str) -> Answer {
        self.must(self.ask("GET", path, "", self.token().as_deref()), path)
    }

    /// `GET` without the token.
    ///
    /// # Panics
    /// When nothing answers.
    pub fn get_as_stranger(&self, path: &str) -> Answer {
        self.must(self.ask("GET", path, "", None), path)
    }

    /// `POST`, `PUT` or `DELETE` with a body, with the token.
    ///
    /// # Panics
    /// When nothing answers.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.must(self.ask(method, path, body, self.token().as_deref()), path)
    }

    /// `GET`, which must give 200 and JSON.
    ///
    /// # Panics
    /// When it does not.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap_or_else(|fault| panic!("{path}: {fault}: {}", answer.body))
    }

    /// A metric, summed over its labels; nothing when it is not shown.
    ///
    /// # Panics
    /// When nothing answers.
    pub fn metric(&self, name: &str) -> Option<f64> {
        sum(&self.get_as_stranger("/metrics").body, name)
    }

    /// Resident memory, in bytes.
    ///
    /// # Panics
    /// When it is not running.
    pub fn rss_bytes(&self) -> u64 {
        process::rss_bytes(self.pid())
    }

    /// CPU time so far.
    ///
    /// # Panics
    /// When it is not running.
    pub fn cpu(&self) -> Duration {
        process::cpu(self.pid())
    }

    fn token(&self) -> Option<String> {
        fs::read_to_string(self.data().join("admin.token")).ok().map(|token| token.trim().to_owned())
    }

    fn ask(&self, method: &str, path: &str, body: &str, token: Option<&str>) -> Result<Answer, ureq::Error> {
        let limits =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).http_status_as_error(false);
        let agent = limits.build().new_agent();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.admin()));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json");
        }
        let mut answer = match body {
            "" => agent.run(request.body(())?)?,
            body => agent.run(request.body(body.to_owned())?)?,
        };
        let body = answer.body_mut().with_config().limit(64 << 20).read_to_string()?;
        Ok(Answer { status: answer.status().as_u16(), body })
    }

    fn must(&self, answer: Result<Answer, ureq::Error>, path: &str) -> Answer {
        answer.unwrap_or_else(|fault| panic!("http://{}{path}: {fault}", self.admin()))
    }
}

/// The sum of the samples of one metric in Prometheus' text form.
fn sum(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
        value.starts_with(' ').then(|| value.trim().split(' ').next()?.parse::<f64>().ok())?
    });
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_metric_are_summed_and_others_are_not() {
        let text = "# TYPE a_total counter\na_total{x=\"1 }\"} 2\na_total{x=\"2\"} 3\na_total_more 7\nb 1.5\n";
        assert_eq!((sum(text, "a_total"), sum(text, "b"), sum(text, "a")), (Some(5.0), Some(1.5), None));
    }
}
