//! Long lists, a page at a time.

use crate::report::grouped;

/// One page of a list whose length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// From 1 on.
    page: usize,
    size: usize,
    total: usize,
}

impl Paging {
    /// A page of a list with `total` entries, `size` on each page.
    pub fn new(page: usize, size: usize, total: usize) -> Paging {
        Paging { page, size, total }
    }

    /// How many entries come before.
    pub fn skip(&self) -> usize {
        self.page.saturating_sub(1).saturating_mul(self.size)
    }

    /// The part of a list that stands on this page.
    pub fn part<'a, T>(&self, list: &'a [T]) -> &'a [T] {
        let from = self.skip().min(list.len());
        &list[from..list.len().min(from.saturating_add(self.size))]
    }

    /// Whether this page holds anything; the first one may be empty.
    pub fn is_there(&self) -> bool {
        self.page == 1 || self.skip() < self.total && self.page > 1
    }

    /// Whether there is more than one page.
    pub fn is_needed(&self) -> bool {
        self.total > self.size
    }

    /// The page before.
    pub fn before(&self) -> Option<usize> {
        (self.page > 1).then(|| self.page - 1)
    }

    /// The page behind.
    pub fn behind(&self) -> Option<usize> {
        (self.skip().saturating_add(self.size) < self.total).then(|| self.page + 1)
    }

    /// `1,234`
    pub fn total_words(&self) -> String {
        grouped(self.total as u64)
    }

    /// `201 to 400 of 1,234`
    pub fn words(&self) -> String {
        let last = self.total.min(self.skip().saturating_add(self.size));
        format!("{} to {} of {}", grouped(self.skip() as u64 + 1), grouped(last as u64), grouped(self.total as u64))
    }
}

/// Page 1, where none is asked for.
pub fn first() -> usize {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_a_list_and_end_with_it() {
        let list: Vec<u32> = (0..5).collect();
        let page = |number| Paging::new(number, 2, list.len());
        assert_eq!((page(1).part(&list), page(3).part(&list)), (&[0, 1][..], &[4][..]));
        assert_eq!((page(1).before(), page(1).behind(), page(3).behind()), (None, Some(2), None));
        assert_eq!((page(2).words().as_str(), page(3).words().as_str()), ("3 to 4 of 5", "5 to 5 of 5"));
        assert!(page(3).is_there() && !page(4).is_there() && !page(0).is_there() && !page(usize::MAX).is_there());
        assert!(Paging::new(1, 2, 0).is_there() && !Paging::new(1, 2, 2).is_needed());
    }
}
