// Package shared lets those who ask the same at the same time share one answer.
package shared

import "sync"

// Look is something that is looked at by many. Its zero value is ready.
type Look[T any] struct {
	one  sync.Mutex // held while one looks
	mu   sync.Mutex
	next *answer[T] // of the look that has not begun
}

type answer[T any] struct {
	users int // who wait for it
	done  chan struct{}
	value T
	err   error
}

// Do returns what a call of look finds that began after Do was called. Of all who ask while one looks the next one looks for all. What is found is shared:
// nobody writes to it.
func (l *Look[T]) Do(look func() (T, error)) (T, error) {
	l.mu.Lock()
	mine := l.next
	first := mine == nil
	if first {
		mine = &answer[T]{done: make(chan struct{})}
		l.next = mine
	}
	mine.users++
	l.mu.Unlock()
	if first {
		l.one.Lock()
		l.mu.Lock()
		l.next = nil
		l.mu.Unlock()
		mine.value, mine.err = look()
		l.one.Unlock()
		close(mine.done)
	}
	<-mine.done
	return mine.value, mine.err
}
