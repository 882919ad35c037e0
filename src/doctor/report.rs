//! What was found, for people and for programs.

use serde::Serialize;

use crate::protocol::plain;

/// The longest text of a check, in bytes: some quote what AWS or an agent says.
const TEXT_BYTES_MAX: usize = 900;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and will surprise.
    Warn,
    /// It does not work.
    Fail,
    /// It was not looked at; the text says why.
    Skip,
}

impl Verdict {
    const ALL: [Self; 4] = [Self::Ok, Self::Warn, Self::Fail, Self::Skip];

    /// As it stands at the begin of a line.
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }

    /// "Select Graphic Rendition" (ECMA-48 section 8.3.117): green, yellow, red, faint.
    fn colour(self) -> &'static str {
        match self {
            Self::Ok => "32",
            Self::Warn => "33",
            Self::Fail => "1;31",
            Self::Skip => "2",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What kind of thing, the same from release to release: `token`, `group-limits`.
    pub name: &'static str,
    /// Which one: an address, a group, a file. Empty where there is only one.
    pub subject: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found, in words.
    pub found: String,
    /// What to do about it; none where nothing is to be done.
    pub mend: Option<String>,
}

impl Check {
    fn new(name: &'static str, subject: &str, verdict: Verdict, found: &str, mend: Option<&str>) -> Self {
        let text = |text: &str| plain(text, TEXT_BYTES_MAX);
        Self { name, subject: text(subject), verdict, found: text(found), mend: mend.map(text) }
    }

    pub(super) fn ok(name: &'static str, subject: &str, found: impl AsRef<str>) -> Self {
        Self::new(name, subject, Verdict::Ok, found.as_ref(), None)
    }

    pub(super) fn warn(
        name: &'static str,
        subject: &str,
        found: impl AsRef<str>,
        mend: impl AsRef<str>,
    ) -> Self {
        Self::new(name, subject, Verdict::Warn, found.as_ref(), Some(mend.as_ref()))
    }

    pub(super) fn fail(
        name: &'static str,
        subject: &str,
        found: impl AsRef<str>,
        mend: impl AsRef<str>,
    ) -> Self {
        Self::new(name, subject, Verdict::Fail, found.as_ref(), Some(mend.as_ref()))
    }

    pub(super) fn skip(name: &'static str, subject: &str, why: impl AsRef<str>) -> Self {
        Self::new(name, subject, Verdict::Skip, why.as_ref(), None)
    }

    /// From a complaint of this program: one line, what is wrong before its first semicolon and the mend behind it.
    pub(super) fn told(
        name: &'static str,
        subject: &str,
        verdict: Verdict,
        complaint: impl AsRef<str>,
    ) -> Self {
        match complaint.as_ref().split_once("; ") {
            Some((found, mend)) => Self::new(name, subject, verdict, found, Some(mend)),
            None => Self::new(name, subject, verdict, complaint.as_ref(), None),
        }
    }

    /// The text of a line, behind verdict and name.
    fn words(&self) -> String {
        let colon = if self.subject.is_empty() { "" } else { ": " };
        let mend = self.mend.as_ref().map_or_else(String::new, |mend| format!("; {mend}"));
        format!("{}{colon}{}{mend}", self.subject, self.found)
    }
}

/// All that was looked at, in an order that does not depend on who answered first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Of this program.
    pub version: &'static str,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        Self { version: env!("CARGO_PKG_VERSION"), checks }
    }

    /// Whether something does not work.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.checks.iter().any(|check| check.verdict == Verdict::Fail)
    }

    /// A line for each check, and one that counts them; aligned, each with a newline.
    #[must_use]
    pub fn text(&self, is_coloured: bool) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for check in &self.checks {
            let word = format!("{:<4}", check.verdict.word());
            let word = match is_coloured {
                true => format!("\x1b[{}m{word}\x1b[0m", check.verdict.colour()),
                false => word,
            };
            text.push_str(&format!("{word}  {:<width$}  {}\n", check.name, check.words()));
        }
        let counts = Verdict::ALL.map(|verdict| {
            let count = self.checks.iter().filter(|check| check.verdict == verdict).count();
            format!("{count} {}", verdict.word())
        });
        text.push_str(&format!("{}\n", counts.join(", ")));
        text
    }

    /// An object with `version` and `checks`, each of which has `name`, `subject`, `verdict` (`ok`, `warn`, `fail`, `skip`),
    /// `found` and `mend` (or null); with a newline.
    ///
    /// # Errors
    /// Never, but the serializer does not know.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            version: "1.2.3",
            checks: vec![
                Check::ok("proxy", "127.0.0.1:8080", "answers"),
                Check::told("token", "", Verdict::Fail, "it is wrong; give the right one; or none"),
                Check::warn("open-files", "", "few\nof them", "raise\tthem\u{202e}\u{9b}"),
                Check::skip("metadata", "", "not on EC2?"),
            ],
        }
    }

    #[test]
    fn people_get_aligned_lines_with_the_mend_and_the_sum() {
        assert_eq!(
            report().text(false),
            "ok    proxy       127.0.0.1:8080: answers\n\
             FAIL  token       it is wrong; give the right one; or none\n\
             warn  open-files  few of them; raise them  \n\
             skip  metadata    not on EC2?\n\
             1 ok, 1 warn, 1 FAIL, 1 skip\n"
        );
    }

    #[test]
    fn colours_are_around_the_verdict_alone() {
        let coloured = report().text(true);
        assert!(coloured.starts_with("\x1b[32mok  \x1b[0m  proxy "), "{coloured:?}");
        let plain = ["\x1b[32m", "\x1b[1;31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, report().text(false));
    }

    #[test]
    fn programs_get_each_check_whole() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(json["version"], "1.2.3");
        assert_eq!(
            json["checks"][1],
            serde_json::json!({
                "name": "token", "subject": "", "verdict": "fail", "found": "it is wrong",
                "mend": "give the right one; or none"
            })
        );
        assert_eq!(json["checks"][3]["mend"], serde_json::Value::Null);
    }

    #[test]
    fn only_what_does_not_work_is_a_failure() {
        let mut report = report();
        assert!(report.has_failed());
        report.checks.retain(|check| check.verdict != Verdict::Fail);
        assert!(!report.has_failed());
    }
}
