//! The highest rate at which nothing is lost, found by halving.

/// What one trial at a rate showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trial {
    /// Share of the frames that were lost.
    Lost(f64),
    /// It was disturbed.
    Void,
}

/// How the rate is looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Search {
    /// Nothing is expected to be lost up to here.
    pub(crate) low: f64,
    /// More than this is not tried.
    pub(crate) high: f64,
    /// Share that may be lost: a stall of the machine is not the contender's.
    pub(crate) loss_max: f64,
    /// It ends when the bounds are this near, as a share of the rate.
    pub(crate) width: f64,
}

/// A rate passes when so many of its trials do.
const PASSES: usize = 2;
/// It does not when so many do not.
const FAILURES: usize = 4;
/// One that lost more than this share counts for two of them: that is not a stall.
const CLEAR: f64 = 0.05;
/// Nor does it when so many trials were disturbed: what cannot be shown is not claimed.
const VOIDS: usize = 4;

impl Search {
    /// The highest rate that passes; 0 when not even the lowest does.
    ///
    /// # Errors
    /// What a trial fails with.
    pub(crate) fn run(&self, mut trial: impl FnMut(f64) -> Result<Trial, String>) -> Result<f64, String> {
        let (mut good, mut bad) = (0.0, self.high);
        let mut rate = self.high;
        while good == 0.0 || bad - good > self.width * bad {
            if self.passes(rate, &mut trial)? {
                good = rate;
                if rate >= self.high {
                    break;
                }
            } else {
                bad = rate;
                if rate <= self.low {
                    break;
                }
            }
            rate = f64::midpoint(good.max(self.low), bad);
            if good == 0.0 && rate - self.low < self.width * rate {
                rate = self.low;
            }
        }
        Ok(good)
    }

    fn passes(
        &self,
        rate: f64,
        trial: &mut impl FnMut(f64) -> Result<Trial, String>,
    ) -> Result<bool, String> {
        let (mut passed, mut failed, mut void) = (0, 0, 0);
        while failed < FAILURES && void < VOIDS {
            match trial(rate)? {
                Trial::Lost(share) if share <= self.loss_max => passed += 1,
                Trial::Lost(share) => failed += if share > CLEAR { 2 } else { 1 },
                Trial::Void => void += 1,
            }
            if passed == PASSES {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search = Search { low: 50.0, high: 1000.0, loss_max: 1e-3, width: 0.02 };

    /// A contender that loses what is more than its capacity.
    fn capacity(capacity: f64) -> impl FnMut(f64) -> Result<Trial, String> {
        move |rate| Ok(Trial::Lost((1.0 - capacity / rate).max(0.0)))
    }

    #[test]
    fn the_rate_is_found_from_below() {
        for rate in [51.0, 123.0, 500.0, 777.0, 999.0] {
            let found = SEARCH.run(capacity(rate)).unwrap();
            assert!(found <= rate * 1.001 && found > rate * 0.975, "{found} for {rate}");
        }
    }

    #[test]
    fn the_bounds_hold() {
        assert_eq!(SEARCH.run(capacity(5000.0)), Ok(1000.0));
        assert_eq!(SEARCH.run(capacity(20.0)), Ok(0.0));
        assert_eq!(SEARCH.run(|_| Err("gone".into())), Err("gone".into()));
    }

    #[test]
    fn a_stall_now_and_then_is_forgiven() {
        let mut number = 0;
        let mut contender = capacity(600.0);
        let found = SEARCH.run(|rate| {
            number += 1;
            if number % 3 == 0 { Ok(Trial::Lost(0.5)) } else { contender(rate) }
        });
        assert!(found.is_ok_and(|rate| rate > 585.0));
    }

    #[test]
    fn only_disturbed_trials_pass_nothing_and_end() {
        let mut trials = 0;
        let found = SEARCH.run(|_| {
            trials += 1;
            Ok(Trial::Void)
        });
        assert_eq!(found, Ok(0.0));
        assert!(trials < 60, "{trials}");
    }
}
