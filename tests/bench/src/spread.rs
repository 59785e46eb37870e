//! Median, least and greatest of a few measurements.

use std::fmt;

/// The middle of some values and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// # Panics
    ///
    /// Without a value.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "a spread of nothing");
        values.sort_by(f64::total_cmp);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { min: values[0], median: (low + high) / 2.0, max: values[values.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}..{:.2})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_values_lies_between_the_middle_two() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 9.0]);
        assert_eq!(spread, Spread { min: 1.0, median: 3.5, max: 9.0 });
        assert_eq!(Spread::of(vec![2.0, 1.0, 9.0]).median, 2.0);
        assert_eq!(spread.to_string(), "3.50 (1.00..9.00)");
    }
}
