//! Tables for people: columns as wide as their widest cell, two spaces apart.

use super::Style;
use std::fmt::{self, Write};

/// To which side a column's cells go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a heading for each column.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the last column are left out, missing ones are empty.
    pub(crate) fn row<T: fmt::Display>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| cell.to_string()).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, each line behind `indent` spaces and ended with a line feed.
    pub(crate) fn render(&self, style: Style, indent: usize) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let mut text = String::new();
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_string()).collect();
        let heading = self.line(&titles, &widths);
        let _ = writeln!(text, "{:indent$}{}", "", style.bold(heading));
        for row in &self.rows {
            let _ = writeln!(text, "{:indent$}{}", "", self.line(row, &widths));
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let title = self.columns.get(column).map_or(0, |(title, _)| title.chars().count());
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.fold(title, usize::max)
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, &width), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            let _ = match align {
                Align::Left => write!(line, "{cell:<width$}  "),
                Align::Right => write!(line, "{cell:>width$}  "),
            };
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("port", Align::Left), ("packets", Align::Right)]);
        table.row(["untrusted", "7"]);
        table.row(["ü", "12345678"]);
        assert_eq!(
            table.render(Style::PLAIN, 2),
            "  port        packets\n  untrusted         7\n  ü          12345678\n"
        );
    }

    #[test]
    fn rows_of_another_length_are_made_to_fit() {
        let mut table = Table::new(&[("a", Align::Left), ("b", Align::Left)]);
        table.row(["1"]);
        table.row(["1", "2", "3"]);
        assert_eq!(table.render(Style::PLAIN, 0), "a  b\n1\n1  2\n");
    }
}
