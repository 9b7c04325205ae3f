-- Counts a job as open before it is admitted, and tells how its tenant stands.
-- KEYS: open, day   ARGV: job, ms for which it counts unless it is admitted
-- Answers {1: it was not counted before, open jobs, GPU seconds, US dollars, 1: the bucket's are in}.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local added = redis.call('ZADD', KEYS[1], 'NX', now + tonumber(ARGV[2]), ARGV[1])
local day = redis.call('HMGET', KEYS[2], 'g', 'c', 'base')
return {added, redis.call('ZCARD', KEYS[1]), day[1] or '0', day[2] or '0', day[3] and 1 or 0}
