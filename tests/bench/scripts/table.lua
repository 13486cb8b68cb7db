local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#039;" }

local function escape(text)
  return (text:gsub("[&<>\"']", entities))
end

function main(env, con)
  con:header("Content-Type", "text/html; charset=utf-8")
  con:puts("<!DOCTYPE html>\n<title>Orders</title>\n<table>\n<tr><th>No.</th><th>Customer</th><th>Price</th></tr>\n")
  for number = 1, 50 do
    local customer = escape("Smith & Sons <no. " .. number .. ">, called \"Smith's\"")
    local price = string.format("%d.%02d", number * 37 % 100, number * 59 % 100)
    con:puts("<tr><td>" .. number .. "</td><td>" .. customer .. "</td><td>" .. price .. "</td></tr>\n")
  end
  con:puts("</table>\n")
end
