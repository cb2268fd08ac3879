//! What held a message's headers, emptied, kept by each worker for its next messages: these then allocate nothing.

use std::cell::RefCell;

use super::{Block, Names};

/// Most blocks that a worker keeps; as many messages are rarely in progress between two of its polls.
const SPARES_MAX: usize = 64;
/// Bytes and headers of the largest block that is kept; larger ones are rare and would pin memory.
const TEXT_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 128;

// Boxed: a message holds its block by one pointer, and it goes in and out as it is.
type Spares = Vec<Box<Block>>;

thread_local! {
    // A worker's alone, see `worker`.
    static SPARES: RefCell<Spares> = const { RefCell::new(Vec::new()) };
}

/// An empty block.
pub(super) fn take() -> Box<Block> {
    SPARES.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes back what a message no longer needs.
pub(super) fn give_back(mut block: Box<Block>) {
    if block.text.capacity() > TEXT_MAX || block.fields.capacity() > FIELDS_MAX {
        return;
    }
    block.text.clear();
    block.fields.clear();
    block.names = Names::NONE;
    block.are_plain = false;
    // A thread that ends keeps nothing any more.
    let _ = SPARES.try_with(|spares| {
        let mut spares = spares.borrow_mut();
        if spares.len() < SPARES_MAX {
            spares.push(block);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_comes_again_and_empty() {
        let mut block = take();
        block.text.extend_from_slice(b"Host: a");
        let capacity = block.text.capacity();
        give_back(block);
        let block = take();
        assert_eq!((block.text.len(), block.text.capacity()), (0, capacity));
    }

    #[test]
    fn large_blocks_are_not_kept() {
        let mut block = take();
        block.text.reserve(TEXT_MAX + 1);
        give_back(block);
        assert!(take().text.capacity() <= TEXT_MAX);
    }
}
