//! Which columns of a table are shown, and how wide they are. Pure.

use super::text::{fit, fit_right, width};

/// Between two columns.
const GAP: usize = 2;

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Above it.
    pub title: &'static str,
    /// Whether its cells stand at the right.
    pub is_number: bool,
    /// Shown wherever `narrow` columns are left for it; the others only where the rest is not squeezed by it.
    pub is_essential: bool,
    /// The narrowest that still tells something.
    pub narrow: usize,
    /// What nobody misses more than.
    pub wide: usize,
}

/// The columns that are shown, by their places, with their widths.
pub(super) type Widths = Vec<(usize, usize)>;

/// What fits into so many columns; everything, if there is no limit.
///
/// 1. Essential columns are taken in their order while their narrow forms fit.
/// 2. Others while the wide forms of all fit.
/// 3. What is left widens the columns in their order, to the wide form first.
pub(super) fn widths(shapes: &[Shape], rows: &[Vec<String>], limit: Option<usize>) -> Widths {
    let needed = |place: usize| {
        let cells = rows.iter().filter_map(|row| row.get(place)).map(|cell| width(cell));
        cells.chain(shapes.get(place).map(|shape| width(shape.title))).max().unwrap_or_default()
    };
    let all: Vec<(usize, Shape, usize)> =
        shapes.iter().enumerate().map(|(place, shape)| (place, *shape, needed(place))).collect();
    let Some(limit) = limit else {
        return all.into_iter().map(|(place, _, needed)| (place, needed)).collect();
    };
    let mut taken: Vec<(usize, Shape, usize)> = Vec::new();
    let total = |taken: &[(usize, Shape, usize)], of: fn(&Shape) -> usize| {
        taken.iter().map(|(_, shape, needed)| of(shape).min(*needed) + GAP).sum::<usize>().saturating_sub(GAP)
    };
    for is_essential in [true, false] {
        let of: fn(&Shape) -> usize = if is_essential { |shape| shape.narrow } else { |shape| shape.wide };
        for column in all.iter().filter(|(_, shape, _)| shape.is_essential == is_essential) {
            taken.push(*column);
            if total(&taken, of) > limit {
                taken.pop();
            }
        }
    }
    let mut room = limit.saturating_sub(total(&taken, |shape| shape.narrow));
    let mut widths: Vec<usize> = taken.iter().map(|(_, shape, needed)| shape.narrow.min(*needed)).collect();
    for of in [|shape: &Shape| shape.wide, |_: &Shape| usize::MAX] {
        for ((_, shape, needed), width) in taken.iter().zip(&mut widths) {
            let more = of(shape).min(*needed).saturating_sub(*width).min(room);
            *width += more;
            room -= more;
        }
    }
    let mut shown: Widths = taken.iter().map(|(place, ..)| *place).zip(widths).collect();
    shown.sort_unstable();
    shown
}

/// The cells of one row, each in its width, with the gaps between them.
pub(super) fn cells<'a>(
    shapes: &'a [Shape],
    widths: &'a Widths,
    row: &'a [String],
) -> impl Iterator<Item = (usize, String)> + 'a {
    widths.iter().enumerate().map(|(nth, &(place, width))| {
        let cell = row.get(place).map_or("", String::as_str);
        let is_number = shapes.get(place).is_some_and(|shape| shape.is_number);
        let fitted = if is_number { fit_right(cell, width) } else { fit(cell, width) };
        let gap = if nth + 1 < widths.len() { GAP } else { 0 };
        (place, format!("{fitted}{}", " ".repeat(gap)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [Shape; 3] = [
        Shape { title: "Name", is_number: false, is_essential: true, narrow: 4, wide: 8 },
        Shape { title: "Idle", is_number: true, is_essential: true, narrow: 4, wide: 4 },
        Shape { title: "Zone", is_number: false, is_essential: false, narrow: 4, wide: 10 },
    ];

    fn shown(limit: Option<usize>) -> String {
        let rows = [vec!["a-long-name".to_owned(), "12".to_owned(), "eu-west-1a".to_owned()]];
        let widths = widths(&SHAPES, &rows, limit);
        cells(&SHAPES, &widths, &rows[0]).map(|(_, cell)| cell).collect()
    }

    #[test]
    fn a_table_fits_any_width() {
        assert_eq!(shown(None), "a-long-name    12  eu-west-1a");
        assert_eq!(shown(Some(29)), "a-long-name    12  eu-west-1a");
        assert_eq!(shown(Some(26)), "a-long-…    12  eu-west-1a");
        // The zone would squeeze the name.
        assert_eq!(shown(Some(25)), "a-long-name    12");
        assert_eq!(shown(Some(12)), "a-lon…    12");
        assert_eq!(shown(Some(10)), "a-l…    12");
        assert_eq!(shown(Some(9)), "a-long-n…");
        assert_eq!(shown(Some(3)), "");
    }

    #[test]
    fn no_row_is_wider_than_the_limit() {
        for limit in 0..60 {
            assert!(width(&shown(Some(limit))) <= limit, "{limit}");
        }
    }
}
