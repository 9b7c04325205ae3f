-- Marks an item as rendering (r) or ready (y), never backwards.
-- KEYS: head, items   ARGV: run, index, mark, ttl ms   Answers 1 when it changed.
local head = redis.call('HMGET', KEYS[1], 'run', 'final', 'total')
if not head[1] or tonumber(head[1]) ~= tonumber(ARGV[1]) or head[2] == '1' then return 0 end
if tonumber(ARGV[2]) >= tonumber(head[3]) then return 0 end
local value = redis.call('HGET', KEYS[2], ARGV[2])
if value == ARGV[3] or (value and value ~= 'r') then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
