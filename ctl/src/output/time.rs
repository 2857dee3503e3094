//! Times as text.

/// `ms` milliseconds after the Unix epoch in RFC 3339, in UTC: "2026-03-01T09:05:00.250Z".
pub(crate) fn rfc3339(ms: u64) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let seconds = ms / 1000;
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// Year, month and day, `days` after 1970-01-01 in the Gregorian calendar. Years are counted from March, so that
/// the leap day comes last; 400 years have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_are_written_as_rfc_3339_wants() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_826_154_007), "2000-02-29T12:09:14.007Z");
        assert_eq!(rfc3339(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn later_times_sort_after_earlier_ones(left in 0u64..253_402_300_800_000, right in 0u64..253_402_300_800_000) {
            prop_assert_eq!(left.cmp(&right), rfc3339(left).cmp(&rfc3339(right)));
        }

        #[test]
        fn any_time_has_a_text(ms: u64) {
            prop_assert!(rfc3339(ms).ends_with('Z'));
        }
    }
}
