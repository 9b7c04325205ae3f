-- Takes one request out of a tenant's rate; a second's worth may come at once.
-- KEYS: rate   ARGV: requests per second, reserve (1: one that is over takes its place in time)
-- Answers {milliseconds to wait (0: now), requests left}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local rate = tonumber(ARGV[1])
local each = 1000000 / rate
local ahead = (rate - 1) * each
local paid = tonumber(redis.call('GET', KEYS[1]) or now)
if paid < now then paid = now end
local wait = paid - ahead - now
if wait > 0 and ARGV[2] ~= '1' then return {math.ceil(wait / 1000), 0} end
paid = paid + each
redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', math.ceil((paid - now) / 1000) + 1000)
if wait > 0 then return {math.ceil(wait / 1000), 0} end
-- A microsecond more: what was divided is not whole.
return {0, math.floor((ahead - (paid - each - now) + 1) / each)}
