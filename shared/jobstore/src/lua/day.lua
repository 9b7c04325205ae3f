-- Adds what an attempt cost to a tenant's day, once.
-- KEYS: day, counted   ARGV: attempt, GPU seconds, US dollars, ttl ms, ms between two writes to the bucket
-- Answers {GPU seconds, US dollars, 1: the bucket's are in, 1: to be written to the bucket now}.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if redis.call('SADD', KEYS[2], ARGV[1]) == 1 then
  redis.call('HINCRBYFLOAT', KEYS[1], 'g', ARGV[2])
  redis.call('HINCRBYFLOAT', KEYS[1], 'c', ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local day = redis.call('HMGET', KEYS[1], 'g', 'c', 'base', 'saved')
local due = now - tonumber(day[4] or 0) >= tonumber(ARGV[5])
-- Before the bucket's are in, a write would replace more by less.
local save = day[3] and due
if save then redis.call('HSET', KEYS[1], 'saved', now) end
return {day[1] or '0', day[2] or '0', day[3] and 1 or 0, save and 1 or 0}
