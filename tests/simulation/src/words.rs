//! Times in words.

/// A span of milliseconds, as people say it: `1 d 2 h`, `3 min 20 s`, `450 ms`. At most two units.
pub(crate) fn span(milliseconds: u64) -> String {
    const UNITS: [(u64, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    let mut left = milliseconds;
    let mut parts = Vec::new();
    for (size, unit) in UNITS {
        let count = left.checked_div(size).unwrap_or(0);
        left = left.checked_rem(size).unwrap_or(0);
        if count > 0 {
            parts.push(format!("{count} {unit}"));
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0 ms".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_said_in_its_two_largest_units() {
        for (milliseconds, said) in
            [(0, "0 ms"), (450, "450 ms"), (200_000, "3 min 20 s"), (93_600_000, "1 d 2 h"), (86_400_005, "1 d 5 ms")]
        {
            assert_eq!(span(milliseconds), said);
        }
    }
}
