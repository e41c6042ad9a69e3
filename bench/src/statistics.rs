//! Median, 99th percentile and maximum of a few values.

use serde::Serialize;

/// Of one measure over all runs; all NaN without any.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// The middle value, or the mean of the two.
    pub median: f64,
    /// Nearest rank; below 100 values that is the maximum.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of `values`, in any order.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted = values.collect::<Vec<_>>();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let count = sorted.len();
        let rank = (count * 99).div_ceil(100);
        Self {
            median: (at(count.saturating_sub(1) / 2) + at(count / 2)) / 2.0,
            p99: at(rank.saturating_sub(1)),
            max: at(count.saturating_sub(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn median_p99_and_maximum() {
        let of = |values: &[f64]| Summary::of(values.iter().copied());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Summary { median: 2.0, p99: 3.0, max: 3.0 });
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Summary { median: 2.5, p99: 4.0, max: 4.0 });
        assert!((Summary::of((1..=200).map(f64::from)).p99 - 198.0).abs() < 1e-9);
        assert!(of(&[]).median.is_nan());
    }
}
