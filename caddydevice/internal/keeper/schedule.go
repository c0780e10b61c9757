// This file holds the schedule: one heap of what is due, one loop that hands it
// out, and a bounded set of workers that do it.

package keeper

import (
	"container/heap"
	"sync"
	"time"
)

// job is something that is due at a time. Whoever takes it out of the queue
// owns it until it is put back.
type job struct {
	due   time.Time
	index int // in the queue; -1 while a worker has it
	task  task
}

// task is what is done in a turn. It puts the job back, if it is to be done
// again.
type task interface{ turn() }

// queued reports whether nobody is at work on it. The schedule's lock is held.
func (j *job) queued() bool { return j.index >= 0 }

// schedule hands out jobs. Its lock is the keeper's, which guards what else is
// told of jobs.
type schedule struct {
	mu    *sync.Mutex
	queue queue
	wake  chan struct{}
	work  chan *job
	// closing ends the loop.
	closing <-chan struct{}
}

func newSchedule(mu *sync.Mutex, closing <-chan struct{}) *schedule {
	return &schedule{mu: mu, wake: make(chan struct{}, 1), work: make(chan *job), closing: closing}
}

// start runs the loop and its workers until closing.
func (s *schedule) start(done *sync.WaitGroup, workers int) {
	done.Go(s.loop)
	for range workers {
		done.Go(func() {
			for j := range s.work {
				j.task.turn()
			}
		})
	}
}

// put puts a job into the queue, or moves it there. The lock is held.
func (s *schedule) put(j *job, at time.Time) {
	j.due = at
	if j.queued() {
		heap.Fix(&s.queue, j.index)
	} else {
		heap.Push(&s.queue, j)
	}
	if j.index == 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// take takes a queued job out, as a worker does. The lock is held.
func (s *schedule) take(j *job) { heap.Remove(&s.queue, j.index) }

// loop hands out what is due.
func (s *schedule) loop() {
	defer close(s.work)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		j, wait := s.takeDue()
		if j != nil {
			select {
			case s.work <- j:
				continue
			case <-s.closing:
				return
			}
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-s.closing:
			return
		}
	}
}

// takeDue takes a job that is due out of the queue, or says how long to wait.
func (s *schedule) takeDue() (*job, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, time.Hour
	}
	if wait := time.Until(s.queue[0].due); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&s.queue).(*job), 0
}

// queue is a heap of jobs by due time.
type queue []*job

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	j := x.(*job)
	j.index = len(*q)
	*q = append(*q, j)
}

func (q *queue) Pop() any {
	old := *q
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	j.index = -1
	return j
}
