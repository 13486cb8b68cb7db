local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#039;" }

local function escape(text)
  return (text:gsub("[&<>\"']", entities))
end

return function(env)
  local parts = {
    "<!DOCTYPE html>\n<title>Orders</title>\n<table>\n<tr><th>No.</th><th>Customer</th><th>Price</th></tr>\n",
  }
  for number = 1, 50 do
    local customer = escape("Smith & Sons <no. " .. number .. ">, called \"Smith's\"")
    local price = string.format("%d.%02d", number * 37 % 100, number * 59 % 100)
    parts[#parts + 1] = "<tr><td>" .. number .. "</td><td>" .. customer .. "</td><td>" .. price .. "</td></tr>\n"
  end
  parts[#parts + 1] = "</table>\n"
  local function body()
    coroutine.yield(table.concat(parts))
  end
  return 200, { ["Content-Type"] = "text/html; charset=utf-8" }, coroutine.wrap(body)
end
