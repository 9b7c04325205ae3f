-- Settles an item: the first one to say stored or failed wins, for the whole run.
-- KEYS: head, items, stored, failed
-- ARGV: run, index, kind (s | f), value, ttl ms
-- Answers {verdict, total, stored, failed, the value that counts, 1 while the run surely goes on}.
local head = redis.call('HMGET', KEYS[1], 'run', 'final', 'total', 'open')
if not head[1] then return {'missing'} end
local run = tonumber(head[1])
if run > tonumber(ARGV[1]) then return {'over'} end
-- A message ahead of the record: the caller restores the newer run and comes again.
if run < tonumber(ARGV[1]) then return {'missing'} end
if head[2] == '1' then return {'over'} end
if tonumber(ARGV[2]) >= tonumber(head[3]) then return {'outside'} end
local verdict = 'first'
local value = redis.call('HGET', KEYS[2], ARGV[2])
if value and string.sub(value, 1, 1) == '{' then
  verdict = 'already'
else
  value = ARGV[4]
  redis.call('HSET', KEYS[2], ARGV[2], value)
  redis.call('SADD', KEYS[ARGV[3] == 's' and 3 or 4], ARGV[2])
  for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
end
return {verdict, tonumber(head[3]), redis.call('SCARD', KEYS[3]), redis.call('SCARD', KEYS[4]), value,
  head[4] == '1' and 1 or 0}
