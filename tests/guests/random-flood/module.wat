;; Asks the host for random bytes through WASI: a gigabyte at once for a batch of one event, and 64 KiB again and again
;; without end for a larger one.
(module
  (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
  (memory (export "memory") 8)
  (global $next (mut i32) (i32.const 1024))

  ;; Old address, old size, alignment, new size.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and
        (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get 2))))
    (global.set $next (i32.add (local.get $at) (local.get 3)))
    (local.get $at))

  (func (export "sgen:connector/delivery@1.0.0#deliver") (param $settings i32) (param i32) (param i32) (param $events i32)
    (result i32)
    (if (i32.eq (local.get $events) (i32.const 1))
      (then (call $random (i64.const 1073741824) (i32.const 16))))
    (loop $more
      ;; What was given before is written over: it is the asking that has no end.
      (global.set $next (i32.const 1024))
      (call $random (i64.const 65536) (i32.const 16))
      (br $more))
    unreachable)

  (func (export "sgen:connector/health@1.0.0#check") (param i32 i32) (result i32) unreachable)
  (func (export "sgen:connector/choices@1.0.0#options") (param i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable))
