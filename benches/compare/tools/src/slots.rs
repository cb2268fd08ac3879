//! Things by number; a number is used again once its thing is gone.
//!
//! An edge that was reported for a thing already gone may so reach its successor, who finds nothing to read.

#[derive(Debug)]
pub struct Slots<T> {
    things: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            things: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    pub fn put(&mut self, thing: T) -> usize {
        if let Some(number) = self.free.pop() {
            self.things[number] = Some(thing);
            return number;
        }
        self.things.push(Some(thing));
        self.things.len() - 1
    }

    pub fn find(&mut self, number: usize) -> Option<&mut T> {
        self.things.get_mut(number)?.as_mut()
    }

    pub fn take(&mut self, number: usize) -> Option<T> {
        let thing = self.things.get_mut(number)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    pub fn len(&self) -> usize {
        self.things.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
