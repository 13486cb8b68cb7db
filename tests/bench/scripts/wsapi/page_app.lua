local begin = "<!DOCTYPE html>\n<title>Stock</title>\n<table>\n"
local head = "<tr><th>No.</th><th>Name</th><th>Left</th><th>Price</th></tr>\n"

return function(env)
  local page = { begin, head }
  for no = 1, 50 do
    local price = string.format("%d.%02d", no * 37 % 100, no * 59 % 100)
    page[#page + 1] = "<tr><td>" .. no .. "</td><td>Part " .. no
      .. "</td><td>" .. no * 7 .. "</td><td>" .. price .. "</td></tr>\n"
  end
  page[#page + 1] = "</table>\n"
  local function body()
    coroutine.yield(table.concat(page))
  end
  return 200, { ["Content-Type"] = "text/html; charset=utf-8" }, coroutine.wrap(body)
end
