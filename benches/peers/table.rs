//! The tables: a line for each measure, with what each proxy came to and whether the target was met.

use std::collections::BTreeMap;

use super::goal::Goal;
use super::proxies::Kind;
use super::stats::{Estimate, estimate, ratios};

/// What each proxy came to in each round.
pub type Figures = BTreeMap<Kind, Vec<f64>>;

/// One line of a table.
#[derive(Debug)]
pub struct Row {
    name: String,
    figures: [String; 3],
    compared: String,
    goal: String,
    verdict: &'static str,
}

impl Row {
    /// Figures alone.
    pub fn plain(name: &str, digits: usize, figures: &Figures) -> Self {
        let cell = |kind| {
            let turns: Option<&Vec<f64>> = figures.get(&kind);
            turns.map_or("–".to_owned(), |turns| number(estimate(turns).median, digits))
        };
        Self {
            name: name.to_owned(),
            figures: [Kind::Haproxy, Kind::Nginx, Kind::Paddock].map(cell),
            compared: "–".to_owned(),
            goal: "–".to_owned(),
            verdict: "–",
        }
    }

    /// A target that is a multiple of the better of these peers: the one with the better median. The ratio is the
    /// median of the rounds' own ratios.
    pub fn beside(name: &str, digits: usize, figures: &Figures, peers: &[Kind], goal: Goal) -> Self {
        let row = Self { goal: goal.text(" ×"), ..Self::plain(name, digits, figures) };
        let medians = peers.iter().filter_map(|kind| Some((*kind, estimate(figures.get(kind)?).median)));
        let better = match goal {
            Goal::AtLeast(_) => medians.max_by(|one, other| one.1.total_cmp(&other.1)),
            Goal::AtMost(_) => medians.min_by(|one, other| one.1.total_cmp(&other.1)),
        };
        let (Some((peer, _)), Some(ours)) = (better, figures.get(&Kind::Paddock)) else { return row };
        let ratio = estimate(&ratios(ours, &figures[&peer]));
        let compared = format!("{} × {}", with_interval(&ratio, 2), peer.name());
        Self { compared, verdict: goal.verdict(&ratio), ..row }
    }

    /// A target that is a figure of its own.
    pub fn alone(name: &str, digits: usize, figures: &Figures, goal: Goal) -> Self {
        let row = Self { goal: goal.text(""), ..Self::plain(name, digits, figures) };
        let Some(ours) = figures.get(&Kind::Paddock) else { return row };
        let own = estimate(ours);
        Self { compared: with_interval(&own, digits), verdict: goal.verdict(&own), ..row }
    }
}

/// The table in Markdown.
pub fn markdown(rows: &[Row]) -> String {
    let mut text =
        "| | HAProxy | nginx | Paddock | Paddock [95 %] | target | |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for Row { name, figures: [haproxy, nginx, paddock], compared, goal, verdict } in rows {
        text += &format!("| {name} | {haproxy} | {nginx} | {paddock} | {compared} | {goal} | {verdict} |\n");
    }
    text
}

fn with_interval(estimate: &Estimate, digits: usize) -> String {
    let (low, high) = (*estimate.interval.start(), *estimate.interval.end());
    if low == high {
        return number(estimate.median, digits);
    }
    format!("{} [{}, {}]", number(estimate.median, digits), number(low, digits), number(high, digits))
}

/// With so many digits behind the point, and commas between thousands.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}
