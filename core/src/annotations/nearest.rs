//! Which annotation a misspelt name was meant to be.

use super::{Annotation, PREFIX};

/// The known name that `name` (both without their prefix) is the fewest slips away from; `None` when each is so far that it
/// would be a guess.
pub(super) fn to(name: &str) -> Option<Annotation> {
    let name = name.to_ascii_lowercase();
    let slips = |known: Annotation| slips(&name, known.name().trim_start_matches(PREFIX));
    let nearest = Annotation::ALL.into_iter().min_by_key(|known| slips(*known))?;
    // A slip in three characters is a typing error, more is another word; and of two any two letters make any other.
    (slips(nearest) * 3 <= name.chars().count()).then_some(nearest)
}

/// Characters left out, put in, changed or swapped with their neighbour, at least (optimal string alignment).
fn slips(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_leads_to_the_name_that_was_meant() {
        for (written, meant) in [
            ("mdoe", Annotation::Mode),
            ("Mode", Annotation::Mode),
            ("modes", Annotation::Mode),
            ("sloo", Annotation::Slo),
            ("min-replica", Annotation::MinReplicas),
            ("maxreplicas", Annotation::MaxReplicas),
            ("max-repilcas", Annotation::MaxReplicas),
            ("rps_per_pod", Annotation::RpsPerPod),
            ("head-room", Annotation::Headroom),
            ("ports", Annotation::Port),
            ("pause", Annotation::Paused),
        ] {
            assert_eq!(to(written), Some(meant), "{written}");
        }
        for far in ["", "x", "floor", "replicas", "enabled"] {
            assert_eq!(to(far), None, "{far}");
        }
        for known in Annotation::ALL {
            assert_eq!(to(known.name().trim_start_matches(PREFIX)), Some(known));
        }
    }

    #[test]
    fn slips_are_counted_the_same_both_ways() {
        for (one, other, count) in
            [("", "abc", 3), ("abc", "acb", 1), ("abc", "abc", 0), ("ab", "ba", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!((slips(one, other), slips(other, one)), (count, count), "{one} {other}");
        }
    }
}
