//! The verdict file: one JSON object a line, one line for each input frame, its fields always in the same order.

use nva_dataplane::names::Names;
use nva_dataplane::pipeline::Outcome;
use nva_dataplane::verdict::{PortId, Verdict};
use std::io::{self, Write};

/// One line.
pub(super) struct Line<'a> {
    /// The frame's number over all captures, from 1.
    pub(super) frame: u64,
    /// Nanoseconds on the captures' clock.
    pub(super) time_ns: u64,
    /// The port that received it.
    pub(super) port: PortId,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// The ports by which frames left while it was processed, in order.
    pub(super) sent: &'a [PortId],
}

impl Line<'_> {
    /// Writes the line. The time is written digit by digit: a floating-point number does not hold today's nanoseconds.
    ///
    /// # Errors
    /// Those of the writer.
    pub(super) fn write(&self, file: &mut impl Write, ports: &[String], names: &Names) -> io::Result<()> {
        let (verdict, reason) = words(self.outcome.verdict);
        let (seconds, nanoseconds) = (self.time_ns / 1_000_000_000, self.time_ns % 1_000_000_000);
        write!(file, "{{\"frame\": {}, \"time\": {seconds}.{nanoseconds:09}, \"port\": ", self.frame)?;
        string(file, port_name(ports, self.port))?;
        write!(file, ", \"verdict\": \"{verdict}\", \"reason\": ")?;
        string(file, reason)?;
        file.write_all(b", \"rule\": ")?;
        string(file, self.outcome.rule.map(|rule| names.rule_name(rule)))?;
        file.write_all(b", \"backend\": ")?;
        string(file, self.outcome.backend.map(|backend| names.backend_name(backend)))?;
        file.write_all(b", \"out\": [")?;
        for (place, port) in self.out().enumerate() {
            if place > 0 {
                file.write_all(b", ")?;
            }
            string(file, port_name(ports, port))?;
        }
        file.write_all(b"]}\n")
    }

    /// The ports by which the frame, or the answer to it, left; each once.
    fn out(&self) -> impl Iterator<Item = PortId> {
        let (forwarded, sent) = match self.outcome.verdict {
            Verdict::Forward(port) => (Some(port), &[][..]),
            Verdict::Reply(_) => (None, self.sent),
            Verdict::Consume | Verdict::Hold | Verdict::Drop(_) => (None, &[][..]),
        };
        let first_time = |&(place, port): &(usize, &PortId)| !sent[..place].contains(port);
        forwarded.into_iter().chain(sent.iter().enumerate().filter(first_time).map(|(_, &port)| port))
    }
}

/// A verdict's word, and that of its reason.
pub(super) fn words(verdict: Verdict) -> (&'static str, Option<&'static str>) {
    match verdict {
        Verdict::Forward(_) => ("forward", None),
        Verdict::Drop(reason) => ("drop", Some(reason.name())),
        Verdict::Reply(reason) => ("reply", reason.map(|reason| reason.name())),
        Verdict::Consume => ("consume", None),
        Verdict::Hold => ("hold", None),
    }
}

fn port_name(ports: &[String], port: PortId) -> Option<&str> {
    ports.get(port.index()).map(String::as_str)
}

/// A JSON string, or null.
fn string(file: &mut impl Write, text: Option<&str>) -> io::Result<()> {
    Ok(serde_json::to_writer(file, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_dataplane::verdict::DropReason;

    fn written(outcome: Outcome, time_ns: u64, sent: &[PortId]) -> String {
        let ports = ["untrusted".to_string(), "a\"b".to_string()];
        let line = Line { frame: 7, time_ns, port: PortId(0), outcome, sent };
        let mut text = Vec::new();
        line.write(&mut text, &ports, &Names::default()).expect("memory takes everything");
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    fn plain(verdict: Verdict) -> Outcome {
        Outcome { verdict, rule: None, backend: None }
    }

    #[test]
    fn a_line_reads_as_the_contract_shows_it() {
        let mut names = Names::default();
        let rule = Some(names.rule("web-nsg", "allow-https"));
        let backend = Some(names.backend("public", "web", "web-1"));
        let outcome = Outcome { verdict: Verdict::Forward(PortId(1)), rule, backend };
        let line = Line { frame: 1, time_ns: 0, port: PortId(0), outcome, sent: &[PortId(1)] };
        let mut text = Vec::new();
        line.write(&mut text, &["untrusted".into(), "trusted".into()], &names)
            .expect("memory takes everything");
        assert_eq!(
            String::from_utf8_lossy(&text),
            "{\"frame\": 1, \"time\": 0.000000000, \"port\": \"untrusted\", \"verdict\": \"forward\", \"reason\": null, \
             \"rule\": \"web-nsg/allow-https\", \"backend\": \"web-1\", \"out\": [\"trusted\"]}\n"
        );
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        let text = written(plain(Verdict::Consume), 1_700_000_000_000_000_001, &[]);
        assert!(text.contains("\"time\": 1700000000.000000001,"), "{text}");
    }

    #[test]
    fn every_verdict_has_its_word_and_only_what_left_is_out() {
        let sent = [PortId(1), PortId(0), PortId(1)];
        for (verdict, word, reason, out) in [
            (Verdict::Forward(PortId(1)), "forward", "null", r#"["a\"b"]"#),
            (Verdict::Reply(None), "reply", "null", r#"["a\"b", "untrusted"]"#),
            (Verdict::Reply(Some(DropReason::TooBig)), "reply", "\"too_big\"", r#"["a\"b", "untrusted"]"#),
            (Verdict::Consume, "consume", "null", "[]"),
            (Verdict::Hold, "hold", "null", "[]"),
            (Verdict::Drop(DropReason::Spoofed), "drop", "\"spoofed\"", "[]"),
        ] {
            let text = written(plain(verdict), 0, &sent);
            assert!(text.contains(&format!("\"verdict\": \"{word}\", \"reason\": {reason},")), "{text}");
            assert!(text.contains(&format!("\"out\": {out}}}")), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        }
    }
}
