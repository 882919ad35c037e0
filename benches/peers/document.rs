//! `BENCHMARKS.md`: the blocks between marks are a bench's, the prose around them is not touched.

/// The document with another text in the block of this name, which stands between `<!-- bench:NAME -->` and
/// `<!-- /bench:NAME -->`; none if it has no such block.
pub fn with_block(document: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- bench:{name} -->\n"), format!("<!-- /bench:{name} -->"));
    let from = document.find(&begin)? + begin.len();
    let to = from + document[from..].find(&end)?;
    Some(format!("{}{}\n{}", &document[..from], text.trim_end(), &document[to..]))
}
