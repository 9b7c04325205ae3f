-- Adds what an attempt cost, once. KEYS: head, usage   ARGV: run, attempt, cost, ttl ms
local head = redis.call('HMGET', KEYS[1], 'run', 'final')
if not head[1] or tonumber(head[1]) ~= tonumber(ARGV[1]) or head[2] == '1' then return 0 end
local added = redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return added
