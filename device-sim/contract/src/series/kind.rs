//! The kinds of figures: how each adds up, and what is left of it without what there was before.
//!
//! A kind is a module of two functions. [`figures!`] calls them for each figure by the name of its kind, so that a figure that is
//! declared is in every sum and in every difference.

/// A struct of figures, each with its kind: its fields, as they travel, and how two of them are put together.
macro_rules! figures {
    ($(#[$of_all:meta])* $name:ident { $($(#[$of_one:meta])* $kind:ident $figure:ident: $type:ty,)* }) => {
        $(#[$of_all])*
        #[serde(rename_all = "camelCase", default)]
        pub struct $name { $($(#[$of_one])* pub $figure: $type,)* }

        impl $name {
            /// Adds what another counted.
            pub fn merge(&mut self, other: &Self) {
                $($crate::series::kind::$kind::add(&mut self.$figure, &other.$figure);)*
            }

            /// What has come since `before`; of what there is now, all.
            pub(crate) fn without(&self, before: &Self) -> Self {
                Self { $($figure: $crate::series::kind::$kind::without(&self.$figure, &before.$figure),)* }
            }
        }
    };
}

pub(crate) use figures;

/// Counted since the start.
pub(crate) mod sum {
    use std::ops::{AddAssign, Sub};

    pub(crate) fn add<T: Copy + AddAssign>(mine: &mut T, theirs: &T) {
        *mine += *theirs;
    }

    pub(crate) fn without<T: Copy + Default + PartialOrd + Sub<Output = T>>(now: &T, before: &T) -> T {
        if now > before { *now - *before } else { T::default() }
    }
}

/// Counted since the start, for QoS 0, 1 and 2.
pub(crate) mod by_qos {
    use super::sum;

    pub(crate) fn add(mine: &mut [u64; 3], theirs: &[u64; 3]) {
        mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| sum::add(mine, theirs));
    }

    pub(crate) fn without(now: &[u64; 3], before: &[u64; 3]) -> [u64; 3] {
        std::array::from_fn(|qos| sum::without(&now[qos], &before[qos]))
    }
}

/// Counted since the start, by the name of a cause; causes of which none came are left out.
pub(crate) mod by_cause {
    use std::collections::BTreeMap;

    pub(crate) fn add(mine: &mut BTreeMap<String, u64>, theirs: &BTreeMap<String, u64>) {
        for (cause, count) in theirs {
            *mine.entry(cause.clone()).or_default() += count;
        }
    }

    pub(crate) fn without(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let come = |(cause, count): (&String, &u64)| {
            let come = count.saturating_sub(before.get(cause).copied().unwrap_or_default());
            (come > 0).then(|| (cause.clone(), come))
        };
        now.iter().filter_map(come).collect()
    }
}

/// What there is at the moment, of all together: no count, so that nothing of it is taken away.
pub(crate) mod gauge {
    pub(crate) use super::sum::add;

    pub(crate) fn without<T: Clone>(now: &T, _: &T) -> T {
        now.clone()
    }
}

/// What somebody has to say: the first one counts.
pub(crate) mod first {
    pub(crate) use super::gauge::without;

    pub(crate) fn add<T: Clone + Default + PartialEq>(mine: &mut T, theirs: &T) {
        if *mine == T::default() {
            mine.clone_from(theirs);
        }
    }
}

/// How far something is off, one way or the other: the largest difference of all counts.
pub(crate) mod farthest {
    pub(crate) use super::gauge::without;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as all kinds are called")]
    pub(crate) const fn add(mine: &mut i64, theirs: &i64) {
        if theirs.unsigned_abs() > mine.unsigned_abs() {
            *mine = *theirs;
        }
    }
}

/// Packets above a limit.
pub(crate) mod oversize {
    use crate::stats::Oversize;

    pub(crate) fn add(mine: &mut Oversize, theirs: &Oversize) {
        mine.merge(theirs);
    }

    pub(crate) fn without(now: &Oversize, before: &Oversize) -> Oversize {
        now.without(before).unwrap_or_default()
    }
}
