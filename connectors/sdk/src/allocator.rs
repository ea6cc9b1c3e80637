//! The guest's memory allocator: size classes over a bump pointer.
//!
//! An invocation is a fresh instance that lives for one batch, so nothing here gives memory back to the host; what matters
//! is that few pages are touched and few instructions spent. Freed blocks are kept by size class and handed out again,
//! which bounds what a long computation needs. The first megabyte is part of the module's initial memory: growing a memory
//! costs the host system calls per instance, and a usual batch never has to.
//!
//! It must not be used with threads: the sandbox has none.
#![allow(unsafe_code, reason = "an allocator hands out raw memory; the argument stands at each block")]

/// Every block is aligned to this, and so is every capacity. The canonical ABI needs 8.
const ALIGNMENT: usize = 16;
/// Up to here a class per multiple of [`ALIGNMENT`]; above, a class per power of two, the steps in which a `Vec` grows.
const SMALL: usize = 1024;
const SMALL_CLASSES: usize = SMALL / ALIGNMENT;
/// 64 MiB: as much memory as the host gives to an instance.
const LARGEST: usize = 1 << 26;
const CLASSES: usize = SMALL_CLASSES + 16;

/// The class of a size and the capacity of that class's blocks; `None` for what no instance has memory for.
fn class_of(size: usize) -> Option<(usize, usize)> {
    if size <= SMALL {
        let class = size.saturating_sub(1) / ALIGNMENT;
        return Some((class, (class + 1) * ALIGNMENT));
    }
    if size > LARGEST {
        return None;
    }
    let capacity = size.next_power_of_two();
    // The first power of two above SMALL has the first class behind the small ones.
    let class = SMALL_CLASSES + (capacity.ilog2() - SMALL.ilog2() - 1) as usize;
    Some((class, capacity))
}

/// The bookkeeping over memory that a source hands out. Addresses are plain numbers; 0 is none.
pub(crate) struct Arena {
    /// The first free address of the current region.
    next: usize,
    /// Its end.
    end: usize,
    /// The first free block of each class; each begins with the address of the next one.
    free: [usize; CLASSES],
}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { next: 0, end: 0, free: [0; CLASSES] }
    }

    /// The address of a block, or 0.
    ///
    /// `grow` is asked for a region of at least so many bytes when the current one is used up. It answers first address
    /// and end.
    ///
    /// # Safety
    /// `grow` answers readable and writable memory that nothing else uses, aligned to 16, with exposed provenance.
    pub(crate) unsafe fn allocate(
        &mut self,
        size: usize,
        align: usize,
        grow: impl FnOnce(usize) -> Option<(usize, usize)>,
    ) -> usize {
        let Some((class, capacity)) = class_of(size) else { return 0 };
        if align <= ALIGNMENT
            && let Some(head) = self.free.get_mut(class)
            && *head != 0
        {
            let block = *head;
            // SAFETY: a block in a list came from `release`, so it is ours, at least 16 bytes long and unused; its first
            // word is the link that `release` wrote.
            *head = unsafe { std::ptr::with_exposed_provenance::<usize>(block).read() };
            return block;
        }
        let padding = |next: usize| next.wrapping_neg() & (align.max(ALIGNMENT) - 1);
        let Some(needed) = capacity.checked_add(align) else { return 0 };
        if self.end - self.next < padding(self.next) + capacity {
            let Some((start, end)) = grow(needed) else { return 0 };
            // A region that follows the last one prolongs it; otherwise the rest of the last one stays unused.
            if start != self.end {
                self.next = start;
            }
            self.end = end;
        }
        let block = self.next + padding(self.next);
        self.next = block + capacity;
        block
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` came from [`Arena::allocate`] of this arena, with a size of at least `size` and with `align`, and is not
    /// used any more.
    pub(crate) unsafe fn release(&mut self, block: usize, size: usize, align: usize) {
        // Blocks of unusual alignment are rare and stay where they are: their capacity begins off the classes' grid.
        if align > ALIGNMENT {
            return;
        }
        if let Some((class, _)) = class_of(size)
            && let Some(head) = self.free.get_mut(class)
        {
            // SAFETY: the block is unused now, and every class has room for a word.
            unsafe { std::ptr::with_exposed_provenance_mut::<usize>(block).write(*head) };
            *head = block;
        }
    }

    /// Whether a block can hold `new_size` where it is: within its capacity, or because it is the last one and the region
    /// goes on behind it.
    pub(crate) fn resize_in_place(&mut self, block: usize, old_size: usize, new_size: usize) -> bool {
        let (Some((_, old)), Some((_, new))) = (class_of(old_size), class_of(new_size)) else { return false };
        if new <= old {
            return true;
        }
        let is_last = block + old == self.next;
        if is_last && new <= self.end - block {
            self.next = block + new;
            return true;
        }
        false
    }
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod global {
    use std::alloc::{GlobalAlloc, Layout};
    use std::cell::UnsafeCell;

    use super::Arena;

    const PAGE: usize = 65_536;
    /// The least that the memory grows by: 1 MiB.
    const GROWTH: usize = 16;
    const FIRST_REGION: usize = 1 << 20;

    #[repr(align(16))]
    struct FirstRegion(UnsafeCell<[u8; FIRST_REGION]>);

    struct State {
        arena: Arena,
        first_region_used: bool,
    }

    struct GuestAllocator(UnsafeCell<State>);

    // SAFETY: the sandbox has no threads.
    unsafe impl Sync for FirstRegion {}
    // SAFETY: the sandbox has no threads.
    unsafe impl Sync for GuestAllocator {}

    static FIRST: FirstRegion = FirstRegion(UnsafeCell::new([0; FIRST_REGION]));

    #[global_allocator]
    static ALLOCATOR: GuestAllocator =
        GuestAllocator(UnsafeCell::new(State { arena: Arena::new(), first_region_used: false }));

    fn grow(first_region_used: &mut bool, needed: usize) -> Option<(usize, usize)> {
        if !*first_region_used {
            *first_region_used = true;
            if needed <= FIRST_REGION {
                let start = FIRST.0.get().expose_provenance();
                return Some((start, start + FIRST_REGION));
            }
        }
        let pages = needed.div_ceil(PAGE).max(GROWTH);
        let before = core::arch::wasm32::memory_grow(0, pages);
        (before != usize::MAX).then(|| (before * PAGE, (before + pages) * PAGE))
    }

    // SAFETY: blocks come from an `Arena` whose regions are the static above and fresh pages, which nothing else uses; no
    // method calls another while it holds the state, and there are no threads.
    unsafe impl GlobalAlloc for GuestAllocator {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: see the impl.
            let state = unsafe { &mut *self.0.get() };
            let State { arena, first_region_used } = state;
            // SAFETY: `grow` hands out each region once, aligned to 16.
            let block =
                unsafe { arena.allocate(layout.size(), layout.align(), |needed| grow(first_region_used, needed)) };
            std::ptr::with_exposed_provenance_mut(block)
        }

        #[inline]
        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: see the impl; the caller gives back what `alloc` or `realloc` returned for this layout. A block that
            // shrank in place comes back with a smaller size, which `release` allows.
            unsafe {
                let state = &mut *self.0.get();
                state.arena.release(block.expose_provenance(), layout.size(), layout.align());
            }
        }

        #[inline]
        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: see the impl.
            let fits = layout.align() <= super::ALIGNMENT
                && unsafe {
                    let state = &mut *self.0.get();
                    state.arena.resize_in_place(block.expose_provenance(), layout.size(), new_size)
                };
            if fits {
                return block;
            }
            // SAFETY: the caller guarantees that `new_size` with this alignment is a layout; both blocks hold at least the
            // bytes copied, and do not overlap since the old one is still allocated.
            unsafe {
                let new_block = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
                if !new_block.is_null() {
                    std::ptr::copy_nonoverlapping(block, new_block, layout.size().min(new_size));
                    self.dealloc(block, layout);
                }
                new_block
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

    use super::*;

    /// Memory for an arena, in the order in which it is handed out.
    struct Regions(Vec<(Box<[u128]>, bool)>);

    impl Regions {
        fn new(bytes: &[usize]) -> Self {
            Self(bytes.iter().map(|bytes| (vec![0_u128; bytes / 16].into_boxed_slice(), false)).collect())
        }

        fn take(&mut self, needed: usize) -> Option<(usize, usize)> {
            let (region, used) = self.0.iter_mut().find(|(region, used)| !used && region.len() * 16 >= needed)?;
            *used = true;
            let start = region.as_mut_ptr().expose_provenance();
            Some((start, start + region.len() * 16))
        }
    }

    fn allocate(arena: &mut Arena, regions: &mut Regions, size: usize, align: usize) -> usize {
        unsafe { arena.allocate(size, align, |needed| regions.take(needed)) }
    }

    #[test]
    fn every_size_has_a_class_that_holds_it() {
        let mut last = (0, 0);
        for size in (0..5000).chain([65_536, 65_537, 1 << 20, (1 << 20) + 1, LARGEST]) {
            let (class, capacity) = class_of(size).unwrap();
            assert!(capacity >= size && capacity % ALIGNMENT == 0 && class < CLASSES, "{size}");
            assert!((class, capacity) >= last, "{size}");
            last = (class, capacity);
        }
        assert_eq!(class_of(LARGEST + 1), None);
        assert_eq!(class_of(usize::MAX), None);
    }

    #[test]
    fn a_released_block_is_handed_out_again() {
        let (mut arena, mut regions) = (Arena::new(), Regions::new(&[4096]));
        let first = allocate(&mut arena, &mut regions, 100, 1);
        let second = allocate(&mut arena, &mut regions, 100, 1);
        unsafe { arena.release(first, 100, 1) };
        unsafe { arena.release(second, 100, 1) };
        assert_eq!(allocate(&mut arena, &mut regions, 110, 8), second);
        assert_eq!(allocate(&mut arena, &mut regions, 97, 4), first);
    }

    #[test]
    fn the_last_block_grows_in_place_and_another_does_not() {
        let (mut arena, mut regions) = (Arena::new(), Regions::new(&[8192]));
        let block = allocate(&mut arena, &mut regions, 1000, 1);
        assert!(arena.resize_in_place(block, 1000, 4000));
        let behind = allocate(&mut arena, &mut regions, 16, 1);
        assert_eq!(behind, block + 4096);
        assert!(arena.resize_in_place(block, 4000, 4096), "within its capacity");
        assert!(!arena.resize_in_place(block, 4096, 5000), "another block lies behind it");
        assert!(!arena.resize_in_place(behind, 16, 8192), "the region ends");
    }

    #[test]
    fn memory_that_is_used_up_is_no_block() {
        let (mut arena, mut regions) = (Arena::new(), Regions::new(&[1024, 4096]));
        assert_ne!(allocate(&mut arena, &mut regions, 900, 1), 0);
        assert_ne!(allocate(&mut arena, &mut regions, 2000, 1), 0, "from the second region");
        assert_eq!(allocate(&mut arena, &mut regions, 4000, 1), 0);
        assert_eq!(allocate(&mut arena, &mut regions, usize::MAX, 1), 0);
    }

    #[test]
    fn random_use_never_hands_out_memory_twice() {
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
        println!("seed {seed}");
        let mut state = seed;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below
        };
        let (mut arena, mut regions) = (Arena::new(), Regions::new(&[1 << 16, 1 << 20, 1 << 22]));
        let mut live: Vec<(usize, usize, usize, u8)> = Vec::new();
        for step in 0..20_000_u32 {
            let mark = step as u8;
            match random(4) {
                0 | 1 if live.len() < 200 => {
                    let size = if random(8) == 0 { random(9000) } else { random(300) } as usize;
                    let align = 1 << random(7);
                    let block = allocate(&mut arena, &mut regions, size, align);
                    assert!(block != 0 && block.is_multiple_of(align));
                    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(block).write_bytes(mark, size) };
                    live.push((block, size, align, mark));
                }
                2 if !live.is_empty() => {
                    let index = random(live.len() as u64) as usize;
                    let (block, size, align, mark) = live[index];
                    let new_size = size + random(500) as usize;
                    if align <= ALIGNMENT && arena.resize_in_place(block, size, new_size) {
                        let bytes = std::ptr::with_exposed_provenance_mut::<u8>(block);
                        unsafe { bytes.write_bytes(mark, new_size) };
                        live[index].1 = new_size;
                    }
                }
                _ if !live.is_empty() => {
                    let index = random(live.len() as u64) as usize;
                    let (block, size, align, mark) = live.swap_remove(index);
                    let bytes =
                        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(block), size) };
                    assert!(bytes.iter().all(|byte| *byte == mark), "seed {seed}: a block was written by another");
                    unsafe { arena.release(block, size, align) };
                }
                _ => {}
            }
        }
    }
}
