//! Names that the configuration takes: most of the cloud's are as they are, the others are made to fit, and that is said.

use std::collections::HashSet;

use super::journal::{Journal, Spot};
use crate::raw::name_mistake;
use crate::report::quote;

/// Characters of a name.
const NAME_MAX: usize = 80;

/// The names of one kind in one place. Case does not count, as in the cloud.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// `wanted`, or the nearest name that is good and free; the change is noted.
    pub(super) fn fit(&mut self, wanted: &str, spot: &Spot, journal: &mut Journal) -> String {
        let good = make_good(wanted);
        let mut name = good.clone();
        let mut number = 2;
        while !self.taken.insert(name.to_ascii_lowercase()) {
            let tail = format!("-{number}");
            let kept: String = good.chars().take(NAME_MAX - tail.len()).collect();
            name = kept + &tail;
            number += 1;
        }
        if name != wanted {
            journal.differs(spot, format!("{} is called {} here", quote(wanted), quote(&name)));
        }
        name
    }
}

fn make_good(wanted: &str) -> String {
    if name_mistake(wanted).is_none() {
        return wanted.to_owned();
    }
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
    let mut name: String = wanted.chars().map(legal).take(NAME_MAX).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        name = std::iter::once('x').chain(name.chars().take(NAME_MAX - 1)).collect();
    }
    let end = name.trim_end_matches(['.', '-']).len();
    name.truncate(end);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Place;

    #[test]
    fn names_are_made_to_fit_and_kept_apart() {
        let spot = Spot { at: Place::default(), path: "name".to_owned() };
        let mut journal = Journal::new(Vec::new());
        let mut names = Names::default();
        let mut fit = |wanted: &str| names.fit(wanted, &spot, &mut journal);
        assert_eq!(fit("web-nsg"), "web-nsg");
        assert_eq!(fit("WEB-nsg"), "WEB-nsg-2");
        assert_eq!(fit("_a b."), "x_a-b");
        assert_eq!(fit(""), "x");
        assert_eq!(fit("ümlaut"), "x-mlaut");
        assert_eq!(fit(&"a".repeat(100)), "a".repeat(80));
        assert_eq!(fit(&"a".repeat(90)), format!("{}-2", "a".repeat(78)));
        // Shortened, the notes on the two long ones read alike.
        assert_eq!(journal.finish().differs.len(), 5);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_wanted_the_name_is_good(wanted in "\\PC{0,100}") {
            proptest::prop_assert_eq!(name_mistake(&make_good(&wanted)), None);
        }
    }
}
