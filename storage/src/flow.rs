//! Many records, page by page: the reader asks for the next page when it has dealt with the last.

use crate::ask::Ask;
use crate::error::StoreError;

/// A sequence of pages. Bounded: one page is in memory, and none is fetched before it is asked for.
pub struct Flow<T> {
    fetch: Box<dyn FnMut() -> Ask<Option<Vec<T>>> + Send>,
}

impl<T: Send + 'static> Flow<T> {
    /// Pages as `fetch` gives them, until it answers `None`.
    pub fn new(fetch: impl FnMut() -> Ask<Option<Vec<T>>> + Send + 'static) -> Self {
        Self { fetch: Box::new(fetch) }
    }

    /// The next page, which may be empty; `None` at the end.
    pub fn next_page(&mut self) -> Ask<Option<Vec<T>>> {
        (self.fetch)()
    }

    /// Everything that is left, at once: blocks. For commands and tests, where the whole fits into memory.
    pub fn wait_all(mut self) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().wait()? {
            all.extend(page);
        }
        Ok(all)
    }

    /// The same pages with every record seen through `view`.
    pub fn map<U: Send + 'static>(
        mut self,
        view: impl Fn(T) -> Result<U, StoreError> + Clone + Send + 'static,
    ) -> Flow<U> {
        Flow::new(move || {
            let view = view.clone();
            self.next_page().map(move |page| page?.map(|page| page.into_iter().map(view).collect()).transpose())
        })
    }
}
